//! The folder that Python's `datasets` makes with `save_to_disk`: Arrow streams, dataset_info.json, state.json.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use collimate_run::atomic;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::record_batches::{BatchRows, Pending, guarded};
use super::schema::features;
use super::{Entry, Sink};
use crate::error::{Error, Result};

const FORMAT: &str = "Arrow";
const STATE: &str = "state.json";
const INFO: &str = "dataset_info.json";
const SPLITS: &str = "dataset_dict.json";
const DATA: &str = "data-00000-of-00001.arrow";
/// The description files are a few kilobytes; more than this is not one of them.
const MAX_DESCRIPTION_BYTES: u64 = 16 << 20;

#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data_files: Vec<DataFile>,
    #[serde(rename = "_indices_data_files", default)]
    indices: Option<Value>,
}

#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

#[derive(Deserialize)]
struct Splits {
    splits: Vec<String>,
}

/// The rows of a folder: of the table in it, or of its only split.
pub(super) fn read(path: &Path) -> Result<impl Iterator<Item = Result<Entry>> + Send + use<>> {
    let folder = only_table(path)?;
    let state: State = description(&folder.join(STATE))?;
    if state.indices.is_some_and(|indices| !indices.is_null()) {
        return Err(not_a_dataset(
            &folder,
            "it keeps its row order in a separate file; save it anew with datasets 2 or later",
        ));
    }
    let files = state.data_files.into_iter().map(|file| inside(&folder, &file.filename));
    let mut files = files.collect::<Result<Vec<_>>>()?.into_iter();
    let mut opened: Option<Stream> = None;
    // The streams of all shards make one run of batches, so that rows are numbered through.
    let batches = std::iter::from_fn(move || {
        loop {
            if let Some(batch) = opened.as_mut().and_then(Iterator::next) {
                return Some(batch);
            }
            let path = files.next()?;
            match File::open(&path).map_err(ArrowError::from).and_then(open_stream) {
                Ok(stream) => opened = Some(stream),
                Err(error) => return Some(Err(error)),
            }
        }
    });
    Ok(BatchRows::new(&folder, FORMAT, batches))
}

/// The rows of one Arrow stream file.
pub(super) fn read_stream(
    path: &Path,
    file: File,
) -> Result<impl Iterator<Item = Result<Entry>> + Send + use<>> {
    let stream = guarded(path, FORMAT, || open_stream(file))?;
    Ok(BatchRows::new(path, FORMAT, stream))
}

type Stream = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

fn open_stream(file: File) -> Result<Stream, ArrowError> {
    Ok(Box::new(StreamReader::try_new(BufReader::new(file), None)?))
}

/// The splits of a folder that a `DatasetDict` was saved to, by name; `None` where the path is anything else.
///
/// # Errors
/// The list of splits cannot be read, is empty, or names a folder elsewhere.
pub fn dataset_splits(path: &Path) -> Result<Option<Vec<(String, PathBuf)>>> {
    if !path.join(SPLITS).exists() {
        return Ok(None);
    }
    let Splits { splits } = description(&path.join(SPLITS))?;
    if splits.is_empty() {
        return Err(not_a_dataset(path, "it has no split"));
    }
    let placed = splits.into_iter().map(|split| inside(path, &split).map(|folder| (split, folder)));
    placed.collect::<Result<_>>().map(Some)
}

/// The folder itself if it holds a table, or its only split.
fn only_table(path: &Path) -> Result<PathBuf> {
    let Some(mut splits) = dataset_splits(path)? else { return Ok(path.to_owned()) };
    match splits.pop() {
        Some((_, folder)) if splits.is_empty() => Ok(folder),
        last => {
            let splits = splits.into_iter().chain(last).map(|(name, _)| name).collect();
            Err(Error::SeveralSplits { path: path.to_owned(), splits })
        }
    }
}

/// A file of the folder, by a name that leads nowhere else.
fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    let plain = Path::new(name).file_name().is_some_and(|last| last == name);
    if plain {
        Ok(folder.join(name))
    } else {
        Err(not_a_dataset(folder, &format!("it names the file {name:?}")))
    }
}

fn description<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let failed = |source| collimate_run::Error::read(path, source);
    let mut text = Vec::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(not_a_dataset(path, "no such file"));
        }
        opened => opened.map_err(failed)?,
    };
    file.take(MAX_DESCRIPTION_BYTES).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| not_a_dataset(path, &error.to_string()))
}

fn not_a_dataset(path: &Path, reason: &str) -> Error {
    Error::NotADataset { path: path.to_owned(), reason: reason.to_owned() }
}

/// Writes one table as a folder that `datasets.load_from_disk` opens.
pub struct DatasetFolder {
    folder: PathBuf,
    pending: Pending,
}

impl DatasetFolder {
    /// Starts a table in `folder`, which is made if it does not stand.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|source| collimate_run::Error::write(folder, source))?;
        Ok(Self { folder: folder.to_owned(), pending: Pending::new(folder)? })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Its values do not fit the columns of earlier rows; a failed write.
    pub fn write(&mut self, row: &Map<String, Value>) -> Result<()> {
        self.pending.push(row)
    }

    /// Writes the table and, last, its state.json.
    ///
    /// # Errors
    /// A failed write.
    pub fn finish(self) -> Result<()> {
        let path = self.folder.join(DATA);
        let rows = self.pending.into_batches(&path, FORMAT)?;
        let fields = features(&rows.schema.fields);
        let mut file = Hashed { file: atomic::writer(&path)?, hasher: blake3::Hasher::new() };
        let mut writer = guarded(&path, FORMAT, || StreamWriter::try_new(&mut file, &rows.schema))?;
        for batch in rows.batches {
            let batch = guarded(&path, FORMAT, || batch)?;
            guarded(&path, FORMAT, || writer.write(&batch))?;
        }
        guarded(&path, FORMAT, || writer.finish())?;
        drop(writer);
        let fingerprint = file.hasher.finalize().to_hex()[..16].to_owned();
        file.file.commit()?;
        write_json(
            &self.folder.join(INFO),
            &json!({ "citation": "", "description": "", "features": fields, "homepage": "", "license": "" }),
        )?;
        write_json(
            &self.folder.join(STATE),
            &json!({
                "_data_files": [{ "filename": DATA }],
                "_fingerprint": fingerprint,
                "_format_columns": null,
                "_format_kwargs": {},
                "_format_type": null,
                "_output_all_columns": false,
                "_split": null,
            }),
        )
    }
}

impl Sink for DatasetFolder {
    fn write(&mut self, row: &Map<String, Value>) -> Result<()> {
        DatasetFolder::write(self, row)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        DatasetFolder::finish(*self)
    }
}

/// Writes the dataset_dict.json of a folder whose splits stand in it, each a [`DatasetFolder`] of that name.
///
/// # Errors
/// A failed write.
pub fn write_dataset_dict(folder: &Path, splits: &[&str]) -> Result<()> {
    write_json(&folder.join(SPLITS), &json!({ "splits": splits }))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    Ok(atomic::write(path, format!("{value:#}\n").as_bytes())?)
}

/// Hashes what passes through: `datasets` keys its caches by a table's fingerprint.
struct Hashed<W> {
    file: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
