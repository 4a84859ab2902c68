//! Requests to a judge, window by window: what is missing is written, and rows that cannot be answered are set aside.

use std::collections::BTreeSet;
use std::path::Path;

use collimate_data::{BadRow, Rejects};
use collimate_generate::{Prompt, Request, SamplingOptions};
use collimate_judge::Language;
use collimate_run::{Context, Journal};

use super::settings::constraint;
use super::{Asked, Windows};
use crate::Error;
use crate::answers::{Effort, Order, Samples, write_missing};
use crate::data_clean::REJECTS_FILE;
use crate::generator::Shared;
use crate::prompts::{Chooser, PromptFormat, Question};

/// A request about a row of a window.
pub(crate) struct Put {
    /// The row's place in the window.
    pub place: usize,
    pub request: Request,
}

/// How requests are answered.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub options: &'a SamplingOptions,
    /// Whether an answer is held to the JSON that its prompt asks for.
    pub constrained: bool,
    /// What progress calls the work.
    pub task: &'a str,
}

/// What a stage has at hand in which a judge writes.
pub(crate) struct Asking<'a> {
    pub source: Shared<'a>,
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
        source: Shared<'a>,
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

    /// Has written what the journal lacks of these requests. Returns the places of rows that cannot be answered, which
    /// are set aside.
    pub fn ask(
        &mut self,
        window: &[Asked],
        mut puts: Vec<Put>,
        manner: Manner<'_>,
        context: &Context,
    ) -> Result<BTreeSet<usize>, Error> {
        if !manner.constrained {
            return self.write(window, puts, manner, context);
        }
        let mut refused = BTreeSet::new();
        // A constraint is one for a whole call.
        for language in Language::ALL {
            let asks = |put: &mut Put| Language::asked_by(&window[put.place].row.prompt) == language;
            let puts = puts.extract_if(.., asks).collect();
            let constraint = Some(constraint(language, manner.options.max_new_tokens));
            let options = &SamplingOptions { constraint, ..manner.options.clone() };
            refused.append(&mut self.write(window, puts, Manner { options, ..manner }, context)?);
        }
        Ok(refused)
    }

    fn write(
        &mut self,
        window: &[Asked],
        puts: Vec<Put>,
        Manner { options, task, .. }: Manner<'_>,
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

    /// Sets a row aside that cannot be asked about.
    pub fn refuse(&mut self, asked: &Asked, reason: impl Into<String>) -> Result<(), Error> {
        Ok(self.rejects.add(BadRow::of(self.file, &asked.place, reason))?)
    }

    /// The same with another source, for which the present one makes room.
    pub fn over(
        self,
        open: impl FnOnce() -> Result<Option<Shared<'a>>, Error>,
    ) -> Result<Option<Self>, Error> {
        let Self { source, journal, rejects, effort, chooser, file, strict } = self;
        drop(source);
        let Some(source) = open()? else { return Ok(None) };
        let chooser = Chooser { has_template: source.has_chat_template(), ..chooser };
        Ok(Some(Self { source, journal, rejects, effort, chooser, file, strict }))
    }

    /// Completes the rejects and returns their count; a run in which nothing was `answered` is no result.
    pub fn finish(self, answered: bool) -> Result<u64, Error> {
        if !answered {
            return Err(self.rejects.nothing_left(self.file).into());
        }
        Ok(self.rejects.finish()?)
    }
}
