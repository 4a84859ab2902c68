//! What is written, and how: Hugging Face folders, before the eyes of the person who waits for them.

use std::cell::Cell;
use std::path::Path;

use bytesize::ByteSize;
use collimate_model::{Model, SaveOptions, StoredType, Tokenizer};
use collimate_run::{Context, Event, peak_memory};
use serde::{Deserialize, Serialize};

use super::fidelity::Fidelity;
use super::sources::{Opened, Sources};
use crate::Error;

/// How weights are stored in a folder.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Storage {
    /// The type of the weights: float32, bfloat16 or float16; if not given, that of most of the model's own, and
    /// float32 where those are quantised.
    #[arg(long, value_name = "NAME")]
    #[serde(serialize_with = "name")]
    pub dtype: Option<StoredType>,
    /// Most that one file of weights holds, such as 2GB; 5GB, if not given.
    #[arg(long, value_name = "SIZE")]
    #[serde(serialize_with = "length")]
    pub max_shard_size: Option<ByteSize>,
}

fn name<S: serde::Serializer>(dtype: &Option<StoredType>, serializer: S) -> Result<S::Ok, S::Error> {
    dtype.map(StoredType::name).serialize(serializer)
}

/// In bytes: as text, sizes that differ would look alike.
fn length<S: serde::Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.as_u64()).serialize(serializer)
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The file in the output folder; none where the folder as a whole is the model.
    pub file: Option<String>,
    /// The type in which the model's weights were stored; `quantised` for blocks.
    pub from: String,
    /// The type in which they are stored now.
    pub dtype: String,
    /// Bytes of the file, or of all in the folder.
    pub bytes: u64,
    /// How near it is to what was to be written; not told of an adapter alone, which is copied.
    pub fidelity: Option<Fidelity>,
    /// Most memory that the program held, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

impl Storage {
    /// Writes a model with its adapters as a Hugging Face folder into the output folder, reads it again and compares.
    pub(super) fn write(self, sources: &Sources, context: &Context) -> Result<Written, Error> {
        let opened = sources.open()?;
        let Opened { base, merged } = &opened;
        let stored = self.dtype.or(base.stored_type()).unwrap_or_default();
        let tokenizer = sources.tokenizer(base, context)?;
        let mut options = SaveOptions { stored, ..SaveOptions::default() };
        if let Some(size) = self.max_shard_size {
            options.max_shard_size = usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        }
        write_folder((merged, tokenizer.as_ref()), options, context)?;
        opened.compare((context.output(), stored.name()), context)
    }
}

impl Opened {
    /// Reads what stands at the path, in this type, and compares it with what was to be written.
    pub(super) fn compare(&self, (path, dtype): (&Path, &str), context: &Context) -> Result<Written, Error> {
        let Self { base, merged } = self;
        let fidelity = Fidelity::measure(base, merged, &Model::open(path)?, context)?;
        if let Some(change) = fidelity.change.filter(|change| change.suffers()) {
            context.report(Event::Warning(&format!(
                "rounding to {dtype} keeps {:.1} % of what the adapters change, and adds noise of {:.1} % of it: \
                 float32 keeps all, and so does the adapter beside its model",
                100.0 * change.kept,
                100.0 * change.noise,
            )));
        }
        Ok(Written {
            file: file_name(path),
            from: name_of(base).to_owned(),
            dtype: dtype.to_owned(),
            bytes: size(path),
            fidelity: Some(fidelity),
            peak_memory_bytes: peak_memory(),
        })
    }
}

/// The type in which a model's weights are stored.
pub(super) fn name_of(model: &Model) -> &'static str {
    model.stored_type().map_or("quantised", StoredType::name)
}

/// Writes model and tokenizer as transformers reads them.
fn write_folder(
    (model, tokenizer): (&Model, Option<&Tokenizer>),
    options: SaveOptions,
    context: &Context,
) -> Result<(), Error> {
    let (done, total) = (Cell::new(0), model.config().weights().len() as u64);
    context.report(Event::Started { task: "writing the model", total: Some(total), unit: "weights" });
    let watch = |_: &str| {
        context.check()?;
        context.report(Event::Advanced { done: done.get(), fields: &[] });
        done.set(done.get() + 1);
        Ok(())
    };
    model.save_watched(context.output(), options, &watch)?;
    context.report(Event::Advanced { done: total, fields: &[] });
    context.report(Event::Finished);
    if let Some(tokenizer) = tokenizer {
        tokenizer.save(context.output())?;
    }
    Ok(())
}

/// The name of a file; none of a folder.
pub(super) fn file_name(path: &Path) -> Option<String> {
    path.file_name().filter(|_| path.is_file()).map(|name| name.to_string_lossy().into_owned())
}

/// Bytes of a file, or of all files that lie in a folder.
pub(super) fn size(path: &Path) -> u64 {
    let length = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| length(&entry.path())).sum(),
        Err(_) => length(path),
    }
}
