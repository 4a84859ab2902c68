//! A Hugging Face folder written before the eyes of the person who waits for it.

use std::cell::Cell;
use std::path::Path;

use collimate_model::{Model, SaveOptions, Tokenizer};
use collimate_run::{Context, Event};

use crate::Error;

/// Writes model and tokenizer as transformers reads them.
pub(super) fn folder(
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

/// Bytes of a file, or of all files that lie in a folder.
pub(super) fn size(path: &Path) -> u64 {
    let length = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| length(&entry.path())).sum(),
        Err(_) => length(path),
    }
}
