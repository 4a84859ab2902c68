//! The models that judge, one after the other, and what they say of every pair in both orders.

use std::collections::{BTreeMap, BTreeSet};

use collimate_data::{PreferenceExample, Rejects};
use collimate_generate::{Request, SamplingOptions};
use collimate_judge::{Kind, Language, PromptRow, verdict};
use collimate_run::{Context, Event};

use super::super::{Config, EvalAccuracy, Method};
use super::likelier;
use super::pair::{Judge, Pair, Verdict, both_orders};
use super::{JudgingSettings, Reason};
use crate::Error;
use crate::generator::{ModelSettings, NamedAdapter, Selection, Shared, Source};
use crate::judge::{Asked, Asking, Manner, Put, Templates, Windows};
use crate::train::Named;

/// What the adapter is called among the requests.
const TUNED: &str = "tuned";

/// A model in the memory, and who judges with it.
struct Pass {
    model: ModelSettings,
    adapter: Option<NamedAdapter>,
    judges: Vec<Judge>,
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Found {
    /// By the number of their row in the file.
    pub pairs: BTreeMap<u64, Pair>,
    /// What log-probs took.
    pub seconds: f64,
    warned: bool,
}

/// A row, with its prompts in both orders.
struct Both<'a> {
    place: usize,
    asked: &'a Asked,
    prompts: [String; 2],
}

impl EvalAccuracy {
    /// Has every model judge every pair: at the leader. Any other worker finds nothing, once it has helped.
    pub(super) fn judge<'a>(
        &'a self,
        method: Method,
        context: &Context<'a>,
    ) -> Result<Option<(Asking<'a>, Found)>, Error> {
        let Config { dataset, judging, strict, .. } = &self.config;
        let templates = Templates::open(Kind::Judge, judging.template.as_deref())?;
        let (base, tuned) = self.passes();
        let place = (dataset.as_path(), *strict);
        let Some(source) = self.open(&base, context)? else {
            return tuned.map_or(Ok(None), |tuned| self.open(&tuned, context).map(|_| None));
        };
        let mut asking = Asking::open(source, judging.prompt_format, place, context)?;
        let mut found = Found::default();
        let run = Run { stage: self, method, templates, context };
        run.pass(&base, &mut asking, &mut found)?;
        if let Some(tuned) = tuned {
            let Some(other) = asking.over(|| self.open(&tuned, context))? else { return Ok(None) };
            asking = other;
            run.pass(&tuned, &mut asking, &mut found)?;
        }
        Ok(Some((asking, found)))
    }

    /// The model, and the tuned one if it is no adapter on it.
    fn passes(&self) -> (Pass, Option<Pass>) {
        let Config { model, tuned, .. } = &self.config;
        let base = Pass { model: model.clone(), adapter: None, judges: vec![Judge::Base] };
        match tuned {
            None => (base, None),
            Some(folder) if Named::is_adapter(folder) => {
                let adapter = Some(NamedAdapter { name: TUNED.to_owned(), folder: folder.clone() });
                (Pass { adapter, judges: vec![Judge::Base, Judge::Tuned], ..base }, None)
            }
            Some(other) => {
                let model = ModelSettings { model_name_or_path: other.clone(), ..model.clone() };
                (base, Some(Pass { model, adapter: None, judges: vec![Judge::Tuned] }))
            }
        }
    }

    fn open<'t>(
        &self,
        Pass { model, adapter, .. }: &Pass,
        context: &Context<'t>,
    ) -> Result<Option<Shared<'t>>, Error> {
        let (adapters, batch) = (adapter.as_slice(), &self.config.judging.batch);
        let selection = Selection { model, adapters, batch, threads: self.threads, server: None };
        Source::open(selection, context)?.shared(context)
    }
}

/// One way of judging.
struct Run<'a> {
    stage: &'a EvalAccuracy,
    method: Method,
    /// A person's own.
    templates: Templates,
    context: &'a Context<'a>,
}

impl Run<'_> {
    /// Lets the judges of a pass judge all pairs.
    fn pass(&self, pass: &Pass, asking: &mut Asking<'_>, found: &mut Found) -> Result<(), Error> {
        let mut windows = Windows::open(&self.stage.config.dataset)?;
        let first = pass.judges.contains(&Judge::Base);
        // A later pass meets bad rows that were set aside.
        let mut again = Rejects::new(None, false);
        loop {
            let rejects = if first { &mut asking.rejects } else { &mut again };
            let window = windows.next(rejects, self.context)?;
            if window.is_empty() {
                return Ok(());
            }
            let known = |asked: &Asked| first || found.pairs.contains_key(&asked.place.row);
            let wanted: Vec<_> = window.iter().enumerate().filter(|(_, asked)| known(asked)).collect();
            let rows = wanted.into_iter().map(|(place, asked)| {
                let (prompts, same) = both_orders(&asked.row, &self.templates);
                self.warn(asked, !same, found);
                Both { place, asked, prompts }
            });
            let rows: Vec<Both<'_>> = rows.collect();
            let refused =
                if self.writes() { self.ask(pass, asking, (&window, &rows))? } else { BTreeSet::new() };
            let (refused, mut rows): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|row| refused.contains(&row.place));
            found.forget(&refused);
            for judge in &pass.judges {
                let verdicts = match self.method {
                    Method::VerdictLikelihood => self.likelier((pass, *judge), asking, &mut rows, found)?,
                    _ => rows.iter().map(|row| read(row, *judge, asking)).collect::<Result<_, _>>()?,
                };
                for (row, verdicts) in rows.iter().zip(verdicts) {
                    found.keep(row, *judge, verdicts, asking)?;
                }
            }
        }
    }

    /// Whether judgements are written.
    fn writes(&self) -> bool {
        self.method != Method::VerdictLikelihood || self.stage.config.judging.reason == Reason::Written
    }

    /// Says once that a prompt is not the template's.
    fn warn(&self, asked: &Asked, differs: bool, found: &mut Found) {
        if differs && !std::mem::replace(&mut found.warned, true) {
            self.context.report(Event::Warning(&format!(
                "row {} has a prompt that the template would not make of its question and answers; in the other order \
                 they are asked about by the template: give that of the prompts with --template",
                asked.place.row
            )));
        }
    }

    /// Has the judgements written that are missing; returns the places of rows that cannot be answered.
    fn ask(
        &self,
        pass: &Pass,
        asking: &mut Asking<'_>,
        (window, rows): (&[Asked], &[Both<'_>]),
    ) -> Result<BTreeSet<usize>, Error> {
        let Config { max_length, ref judging, .. } = self.stage.config;
        let JudgingSettings { max_new_tokens, constrained, .. } = *judging;
        let mut puts = Vec::new();
        for Both { place, asked, prompts } in rows {
            for judge in &pass.judges {
                for (order, prompt) in prompts.iter().enumerate() {
                    let request = Request::new(asking.prompt(prompt), asked.row.test_id);
                    let (samples, adapter) = (vec![judge.number(order)], pass.adapter(*judge));
                    puts.push(Put { place: *place, request: Request { samples, adapter, ..request } });
                }
            }
        }
        let options = &SamplingOptions { max_new_tokens, max_length, ..SamplingOptions::default() };
        asking.ask(window, puts, Manner { options, constrained, task: "judging" }, self.context)
    }

    /// The verdicts of a judge by the log-probs of their numbers; rows for which the model's context is too short are
    /// set aside, and leave `rows`.
    fn likelier(
        &self,
        (pass, judge): (&Pass, Judge),
        asking: &mut Asking<'_>,
        rows: &mut Vec<Both<'_>>,
        found: &mut Found,
    ) -> Result<Vec<[Verdict; 2]>, Error> {
        let (mut examples, mut opened, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows.drain(..) {
            if let Some(both) = self.examples(&row, judge, asking)? {
                opened.push(both.each_ref().map(Option::is_some));
                examples.extend(both.into_iter().flatten());
                kept.push(row);
            } else {
                asking.refuse(
                    row.asked,
                    "the prompt with a verdict is longer than max_length or the model's context",
                )?;
                found.forget(&[row]);
            }
        }
        *rows = kept;
        let adapter = pass.adapter(judge);
        let asked = likelier::Asked {
            model: &pass.model.model_name_or_path,
            adapter: adapter.as_deref(),
            micro_batch_tokens: self.stage.config.max_tokens_per_micro_batch,
            cache: self.stage.cache.as_deref(),
        };
        let (verdicts, seconds) =
            likelier::verdicts(asking.source.built_in()?, &examples, asked, &self.context.alone())?;
        found.seconds += seconds;
        let mut verdicts = verdicts.into_iter();
        let mut next =
            |opened: bool| if opened { verdicts.next().unwrap_or_default() } else { Verdict::default() };
        Ok(opened.into_iter().map(|orders| orders.map(&mut next)).collect())
    }

    /// A row in both orders with either number at its end, nothing where what was written names no number; none at all
    /// where the model's context is too short.
    fn examples(
        &self,
        row: &Both<'_>,
        judge: Judge,
        asking: &mut Asking<'_>,
    ) -> Result<Option<[Option<PreferenceExample>; 2]>, Error> {
        let mut both = [None, None];
        for (order, (prompt, example)) in row.prompts.iter().zip(&mut both).enumerate() {
            let sample = asking.journal.get(&[row.asked.row.test_id, judge.number(order)])?;
            let written = sample.map(|sample| sample.text).unwrap_or_default();
            let language = Language::asked_by(&row.asked.row.prompt);
            let Some(text) = self.stage.config.judging.reason.opening(language, &written) else { continue };
            let prompt = asking.prompt(prompt);
            let model = asking.source.built_in()?;
            let found = likelier::example(model, &prompt, &text)?;
            let context = model.context_length();
            let most = self.stage.config.max_length.map_or(context, |length| length.min(context));
            if found.shared.len() + found.trained(0).max(found.trained(1)) > most {
                return Ok(None);
            }
            *example = Some(found);
        }
        Ok(Some(both))
    }
}

/// The verdicts that a judge wrote.
fn read(row: &Both<'_>, judge: Judge, asking: &Asking<'_>) -> Result<[Verdict; 2], Error> {
    let mut verdicts = [Verdict::default(); 2];
    for (order, found) in verdicts.iter_mut().enumerate() {
        let sample = asking.journal.get(&[row.asked.row.test_id, judge.number(order)])?;
        found.number = sample.and_then(|sample| verdict(&sample.text));
    }
    Ok(verdicts)
}

impl Pass {
    /// The adapter with which a judge answers.
    fn adapter(&self, judge: Judge) -> Option<String> {
        self.adapter.as_ref().filter(|_| judge == Judge::Tuned).map(|adapter| adapter.name.clone())
    }
}

impl Found {
    /// Keeps what a judge says of a row.
    fn keep(
        &mut self,
        row: &Both<'_>,
        judge: Judge,
        verdicts: [Verdict; 2],
        asking: &mut Asking<'_>,
    ) -> Result<(), Error> {
        let PromptRow { prompt, tag, test_id, chosen, r1, r2, .. } = &row.asked.row;
        if judge == Judge::Tuned {
            let pair = self.pairs.get_mut(&row.asked.place.row);
            pair.into_iter().for_each(|pair| pair.tuned = Some(verdicts));
            return Ok(());
        }
        let tokenizer = asking.source.built_in()?.tokenizer();
        let lengths = [tokenizer.encode(r1, false)?.len(), tokenizer.encode(r2, false)?.len()];
        let pair = Pair {
            test_id: *test_id,
            tag: tag.clone(),
            chosen: *chosen,
            language: Language::asked_by(prompt),
            length: lengths[0].max(lengths[1]) as u64,
            base: verdicts,
            tuned: None,
        };
        self.pairs.insert(row.asked.place.row, pair);
        Ok(())
    }

    /// Leaves rows out that cannot be judged.
    fn forget(&mut self, rows: &[Both<'_>]) {
        for row in rows {
            self.pairs.remove(&row.asked.place.row);
        }
    }
}
