//! Requests to a judge, window by window: what is missing is written, and rows that cannot be answered are set aside.

use std::collections::BTreeSet;
use std::path::Path;

use collimate_data::{BadRow, Error as DataError, Rejects};
use collimate_generate::{Prompt, Request, SamplingOptions};
use collimate_run::{Context, Journal};

use super::{Asked, Windows};
use crate::Error;
use crate::answers::{Effort, Order, Samples, write_missing};
use crate::data_clean::REJECTS_FILE;
use crate::generator::Source;
use crate::prompts::{Chooser, PromptFormat, Question};

/// A request about a row of a window.
pub(crate) struct Put {
    /// The row's place in the window.
    pub place: usize,
    pub request: Request,
}

/// What a stage has at hand in which a judge writes.
pub(crate) struct Asking<'a> {
    pub source: Source,
    /// All that was written, under the `test_id` and the number of the sample.
    pub journal: Samples,
    pub rejects: Rejects,
    pub effort: Effort,
    chooser: Chooser,
    file: &'a Path,
    strict: bool,
}

impl<'a> Asking<'a> {
    /// Opens the journal, and the rejects of a file.
    pub fn open(
        source: Source,
        prompt_format: PromptFormat,
        (file, strict): (&'a Path, bool),
        context: &Context,
    ) -> Result<Self, Error> {
        Ok(Self {
            // Judges are asked in their chat template whether they have an adapter or not.
            chooser: Chooser {
                asked: prompt_format,
                adapted: false,
                has_template: source.has_chat_template(),
            },
            source,
            journal: Journal::open(context)?,
            rejects: Rejects::new(Some(context.output().join(REJECTS_FILE)), strict),
            effort: Effort::default(),
            file,
            strict,
        })
    }

    /// The next rows.
    pub fn next(&mut self, windows: &mut Windows<'_>, context: &Context) -> Result<Vec<Asked>, Error> {
        windows.next(&mut self.rejects, context)
    }

    /// A text in the form in which it is put to the model.
    pub fn prompt(&self, text: &str) -> Prompt {
        self.chooser.write(&Question::from(text)).1
    }

    /// Has written what the journal lacks of these requests; progress calls the work `task`. Returns the places of rows
    /// that cannot be answered, which are set aside.
    pub fn ask(
        &mut self,
        window: &[Asked],
        puts: Vec<Put>,
        (options, task): (&SamplingOptions, &str),
        context: &Context,
    ) -> Result<BTreeSet<usize>, Error> {
        let (places, requests): (Vec<usize>, Vec<Request>) =
            puts.into_iter().map(|put| (put.place, put.request)).unzip();
        let order = Order { requests: &requests, options, strict: self.strict, side: 0 };
        let mut delivery =
            write_missing(order, self.source.generator(task).as_mut(), &mut self.journal, context)?;
        self.effort = self.effort.and(delivery.effort);
        let mut refused = BTreeSet::new();
        delivery.refused.retain(|index, _| refused.insert(places[*index]));
        delivery.set_aside(Some(&mut self.rejects).filter(|_| !self.strict), context, |index, reason| {
            BadRow::of(self.file, &window[places[index]].place, reason)
        })?;
        Ok(refused)
    }

    /// Completes the rejects and returns their count; a run without a single answer is no result.
    pub fn finish(self) -> Result<u64, Error> {
        if self.journal.is_empty() {
            let all_bad = |first| format!("all {} rows are bad (the first: {first})", self.rejects.count());
            let reason = self.rejects.first().map_or_else(|| "it is empty".to_owned(), all_bad);
            return Err(DataError::Empty { path: self.file.to_owned(), reason }.into());
        }
        Ok(self.rejects.finish()?)
    }
}
