//! How preference rows become examples, for all methods that learn from them.

use collimate_data::{
    PreferenceExample, PreferenceExamples, PreferenceFormat, PreferenceOptions, preference_examples,
    unpaired_examples,
};
use collimate_run::Event;
use serde::Serialize;

use super::{Rows, Source};
use crate::Error;

/// Tokens to which an answer with its prompt is cut, where nothing else is said.
pub(crate) const MAX_LENGTH: usize = 1024;

/// What is read of the rows.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct RowSettings {
    /// Format of the rows, if the columns do not tell: prompt_chosen_rejected, conversations_chosen_rejected,
    /// instruction_chosen_rejected, chosen_rejected; of single answers prompt_completion_label, messages_label or
    /// conversations_label.
    #[arg(long, value_name = "NAME")]
    pub dataset_format: Option<String>,
    /// Tokens to which an answer with its prompt is cut at its end; a row whose prompt alone has as many is left out,
    /// and for reward models one with a longer answer too.
    #[arg(long, value_name = "TOKENS", default_value_t = MAX_LENGTH)]
    pub max_length: usize,
}

impl RowSettings {
    /// Chosen and rejected answers.
    pub(crate) fn pairs(&self, source: Source<'_>, strict: bool) -> Result<Rows<PreferenceExample>, Error> {
        self.read(&source, |options| preference_examples(source.path, source.tokenizer, options), strict)
    }

    /// Chosen and rejected answers, none of which is cut: what stands at its end is wanted (TRL's `RewardTrainer`).
    pub(crate) fn whole_pairs(
        &self,
        source: Source<'_>,
        strict: bool,
    ) -> Result<Rows<PreferenceExample>, Error> {
        let whole = |options: &PreferenceOptions| {
            let options = PreferenceOptions { whole: true, ..options.clone() };
            preference_examples(source.path, source.tokenizer, &options)
        };
        self.read(&source, whole, strict)
    }

    /// Single answers, with their labels; with an answer to another prompt of the same `group` of rows, if given.
    pub(crate) fn answers(
        &self,
        source: Source<'_>,
        strict: bool,
        group: Option<usize>,
    ) -> Result<Rows<PreferenceExample>, Error> {
        self.read(&source, |options| unpaired_examples(source.path, source.tokenizer, options, group), strict)
    }

    /// Reads a file and says what was lost on the way.
    fn read(
        &self,
        source: &Source<'_>,
        read: impl FnOnce(&PreferenceOptions) -> collimate_data::Result<PreferenceExamples>,
        strict: bool,
    ) -> Result<Rows<PreferenceExample>, Error> {
        let options = PreferenceOptions {
            max_length: self.max_length,
            format: self.dataset_format.as_deref().map(str::parse::<PreferenceFormat>).transpose()?,
            strict,
            rejects: Some(source.rejects.clone()),
            dropped: Some(source.dropped.clone()),
            ..PreferenceOptions::default()
        };
        source.context.report(Event::Started { task: "tokenising", total: None, unit: "examples" });
        let found = read(&options)?;
        source.context.report(Event::Advanced { done: found.examples.len() as u64, fields: &[] });
        source.context.report(Event::Finished);
        let losses = [
            (found.truncated, "were cut to max_length"),
            (found.dropped.identical, "have two answers that are the same and are left out"),
            (found.dropped.empty_answer, "have an empty answer and are left out"),
            (found.dropped.prompt_too_long, "have a prompt that fills max_length and are left out"),
            (found.dropped.answer_too_long, "have an answer that goes beyond max_length and are left out"),
            (found.rejected, "are bad and stand in the file of rejects"),
        ];
        for (count, what) in losses.into_iter().filter(|&(count, _)| count > 0) {
            let path = source.path.display();
            source.context.report(Event::Note(&format!("{path}: {count} rows {what}")));
        }
        let skipped = found.dropped.total();
        let (truncated, rejected) = (found.truncated, found.rejected);
        Ok(Rows { examples: found.examples, truncated, skipped, rejected })
    }
}
