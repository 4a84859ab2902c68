//! Answers whose value is wanted: the trees of preference examples with a readout where each sequence ends.

use std::ops::Range;
use std::time::Instant;

use collimate_data::PreferenceExample;
use collimate_engine::Engine;
use collimate_model::DecoderConfig;
use collimate_objective::Facts;
use collimate_run::team::{own_share, shared_out};
use collimate_run::{Context, Event};

use crate::micro_batch::{MicroBatch, costs, cut, done_by_all};
use crate::{Error, Result, Scorer, TrainingExample};

/// Answers to one prompt, each of which gets one value and none of whose tokens is predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct ValuedExample {
    /// The answers.
    pub answers: PreferenceExample,
    /// The token of each whole sequence at which it is valued.
    ends: Vec<usize>,
}

impl ValuedExample {
    /// Values each answer where transformers' `*ForSequenceClassification` would: [`DecoderConfig::pooled`].
    pub fn new(answers: PreferenceExample, model: &DecoderConfig) -> Self {
        let whole = |own: &[u32]| [answers.shared.as_slice(), own].concat();
        let ends = answers.branches.iter().map(|branch| model.pooled(&whole(&branch.tokens))).collect();
        Self { answers, ends }
    }
}

impl TrainingExample for ValuedExample {
    fn tokens(&self) -> usize {
        self.answers.tokens()
    }

    fn targets(&self) -> usize {
        0
    }

    fn facts(&self) -> Facts {
        self.answers.facts()
    }

    fn row(&self) -> u64 {
        self.answers.row
    }

    fn push(&self, number: usize, part: &mut MicroBatch) {
        let batch = &mut part.batch;
        let branches = self.answers.branches.iter().map(|branch| branch.tokens.as_slice());
        batch.push_valued_tree(&self.answers.shared, branches.zip(self.ends.iter().copied()));
        let none = batch.targets.len()..batch.targets.len();
        part.grouping.push(number, self.facts(), vec![none; self.ends.len()]);
    }
}

/// The values of a data set under a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// Of every answer, example after example.
    pub values: Vec<f32>,
    /// Seconds that the model took.
    pub seconds: f64,
}

/// Values every answer of the examples; several workers share them out, and all get the same. Errors: a model without a
/// scalar head, an interruption, a worker that is lost.
pub fn values<E: Engine, X: TrainingExample>(
    scorer: Scorer<'_, E>,
    examples: &[X],
    context: &Context<'_>,
) -> Result<Values> {
    let (start, all) = (Instant::now(), (0..examples.len()).collect::<Vec<_>>());
    let parts: Vec<Range<usize>> = cut(examples, &all, scorer.micro_batch_tokens).collect();
    let costs = costs(scorer.engine.config(), (examples, &all), &parts);
    let own = parts[own_share(context.team(), &costs)].iter().map(|part| part.len() as u64).sum();
    let total = examples.len() as u64;
    context.report(Event::Started { task: scorer.task, total: Some(total), unit: "examples" });
    let (mut done, mut micro_batch) = (0, MicroBatch::default());
    let values = shared_out(context.team(), &costs, |part| {
        context.check()?;
        micro_batch.fill(examples, &all[parts[part].clone()]);
        let values = scorer.engine.score(&micro_batch.batch, scorer.adapter)?.values.clone();
        done += parts[part].len() as u64;
        context.report(Event::Advanced { done: done_by_all(done, own, total), fields: &[] });
        Ok::<_, Error>(values)
    })?;
    context.report(Event::Finished);
    Ok(Values { values: values.concat(), seconds: start.elapsed().as_secs_f64() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use collimate_data::Branch;

    fn example(shared: &[u32], branches: [&[u32]; 2], ends: [usize; 2]) -> ValuedExample {
        let branch = |tokens: &[u32]| Branch { tokens: tokens.to_vec(), trained_from: 1 };
        let answers = PreferenceExample {
            shared: shared.to_vec(),
            branches: branches.map(branch).into(),
            weight: 2.0,
            margin: 0.5,
            desirable: true,
            row: 7,
            pair_type: None,
            tag: None,
        };
        ValuedExample { answers, ends: ends.into() }
    }

    #[test]
    fn each_answer_is_read_where_it_ends_and_nothing_is_predicted() {
        let mut part = MicroBatch::default();
        // The second answer ends within what both begin with, and so does all of the third.
        example(&[1, 2, 3], [&[4, 5], &[6, 0]], [4, 2]).push(0, &mut part);
        example(&[], [&[8], &[9, 9]], [0, 1]).push(1, &mut part);
        example(&[1, 2], [&[3], &[]], [2, 1]).push(2, &mut part);
        assert_eq!(part.batch.tokens, [1, 2, 3, 4, 5, 6, 0, 8, 9, 9, 1, 2, 3]);
        assert_eq!(part.batch.readouts, [4, 2, 7, 9, 12, 11]);
        assert_eq!((part.batch.targets.len(), part.grouping.targets()), (0, 0));
        assert_eq!(part.grouping.examples[1].sequences, 2..4);
        assert_eq!(part.grouping.examples[0].facts, Facts { weight: 2.0, margin: 0.5, desirable: true });
        assert_eq!(part.batch.trees().count(), 4);
    }
}
