//! Parquet, as Hugging Face writes it: snappy pages, lists of structs for messages.

use std::fs::File;
use std::path::{Path, PathBuf};

use collimate_run::atomic;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};

use super::record_batches::{BatchRows, Pending, guarded};
use super::{Entry, Sink};
use crate::error::Result;

const FORMAT: &str = "Parquet";
/// Rows decoded at once: few, since one long dictionary entry may stand in all of them.
const BATCH_ROWS: usize = 32;
/// A row group is closed when it has grown to this size in memory.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// The rows of an open Parquet file.
pub(super) fn read(path: &Path, file: File) -> Result<impl Iterator<Item = Result<Entry>> + Send + use<>> {
    let builder = guarded(path, FORMAT, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let reader = guarded(path, FORMAT, || builder.with_batch_size(BATCH_ROWS).build())?;
    Ok(BatchRows::new(path, FORMAT, reader))
}

/// Writes a Parquet file once all rows are known.
pub(super) struct Writer {
    path: PathBuf,
    pending: Pending,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(path);
        Ok(Self { path: path.to_owned(), pending: Pending::new(folder)? })
    }
}

impl Sink for Writer {
    fn write(&mut self, row: &Map<String, Value>) -> Result<()> {
        self.pending.push(row)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let path = &self.path;
        let rows = self.pending.into_batches(path, FORMAT)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = atomic::writer(path)?;
        let mut writer =
            guarded(path, FORMAT, || ArrowWriter::try_new(file, rows.schema.into(), Some(properties)))?;
        for batch in rows.batches {
            let batch = guarded(path, FORMAT, || batch)?;
            guarded(path, FORMAT, || writer.write(&batch))?;
            if writer.in_progress_size() > ROW_GROUP_BYTES {
                guarded(path, FORMAT, || writer.flush())?;
            }
        }
        Ok(guarded(path, FORMAT, || writer.into_inner())?.commit()?)
    }
}
