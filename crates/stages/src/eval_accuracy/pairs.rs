//! Pairs of answers in and out: how their rows are read, and what is written of them.

use std::path::Path;

use collimate_data::PreferenceExample;
use collimate_model::Model;
use collimate_run::{Context, atomic};
use serde::Serialize;

use super::{Config, EvalAccuracy, RESULT_FILE};
use crate::Error;
use crate::data_clean::REJECTS_FILE;
use crate::train::{DROPPED_FILE, MAX_LENGTH, RowSettings, Rows, Source};

/// What each model says of each pair, one a line.
pub const PAIRS_FILE: &str = "pairs.jsonl";

impl EvalAccuracy {
    /// The pairs to measure on; if `whole`, none whose answers would be cut.
    pub(super) fn read_pairs(
        &self,
        model: &Model,
        whole: bool,
        context: &Context,
    ) -> Result<Rows<PreferenceExample>, Error> {
        let source = Source {
            path: &self.config.dataset,
            model: model.config(),
            tokenizer: &model.tokenizer()?,
            rejects: context.output().join(REJECTS_FILE),
            dropped: context.output().join(DROPPED_FILE),
            context,
        };
        let Config { dataset_format, max_length, strict, .. } = &self.config;
        let dataset_format = dataset_format.clone();
        let rows = RowSettings { dataset_format, max_length: max_length.unwrap_or(MAX_LENGTH) };
        if whole { rows.whole_pairs(source, *strict) } else { rows.pairs(source, *strict) }
    }

    /// Writes the figures, and what was found of each pair.
    pub(super) fn save(
        &self,
        summary: &impl Serialize,
        pairs: &[impl Serialize],
        output: &Path,
    ) -> Result<(), Error> {
        let write = |name: &str, text: serde_json::Result<Vec<u8>>| {
            let path = output.join(name);
            let text = text.map_err(|source| collimate_run::Error::write(&path, source.into()))?;
            atomic::write(&path, &text)
        };
        let mut lines = Vec::new();
        let written = pairs.iter().try_for_each(|pair| {
            serde_json::to_writer(&mut lines, pair)?;
            lines.push(b'\n');
            Ok(())
        });
        write(PAIRS_FILE, written.map(|()| lines))?;
        Ok(write(RESULT_FILE, serde_json::to_vec_pretty(summary))?)
    }
}
