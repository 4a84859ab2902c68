//! What the batches of a training will be, known before its first step.

use crate::{Position, Sampler, Settings, TrainingExample, cut};
use collimate_run::team::Team;

/// Steps that are looked at beforehand.
const FORESEEN: u64 = 1_000_000;

/// How the batches of a training are cut into micro-batches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cuts {
    /// The most micro-batches of a step.
    pub most: usize,
    /// The mean number of micro-batches of a step.
    pub mean: f64,
    /// The mean number of tokens of a step.
    pub tokens: f64,
}

impl Cuts {
    /// What to say where there are too few micro-batches for so many workers; some of them then have nothing to do.
    pub fn advice(&self, team: &dyn Team) -> Option<String> {
        let workers = team.size();
        (!team.is_alone() && self.mean < workers as f64).then(|| {
            format!(
                "a step has {:.1} micro-batches, and there are {workers} workers: some have nothing to do; set \
                 --max_tokens_per_micro_batch to {} or less, or raise --per_device_train_batch_size",
                self.mean,
                // Twice as many as workers, so that they can be shared out evenly.
                (self.tokens / (2 * workers) as f64).max(1.0) as u64,
            )
        })
    }
}

impl Settings {
    /// How the batches of a training will be cut.
    pub fn cuts<X: TrainingExample>(&self, examples: &[X]) -> Cuts {
        let mut cuts = Cuts::default();
        let mut steps = 0.0f64;
        self.foresee(examples, |_, batch| {
            let parts = cut(examples, batch, self.micro_batch_tokens).count();
            cuts.most = cuts.most.max(parts);
            cuts.mean += parts as f64;
            cuts.tokens += batch.iter().map(|&number| examples[number].tokens() as f64).sum::<f64>();
            steps += 1.0;
            true
        });
        Cuts { mean: cuts.mean / steps.max(1.0), tokens: cuts.tokens / steps.max(1.0), ..cuts }
    }

    /// The numbers of the examples that a training visits, in their order in the data.
    pub fn visited<X: TrainingExample>(&self, examples: &[X]) -> Vec<usize> {
        let mut visited = vec![false; examples.len()];
        self.foresee(examples, |position, batch| {
            batch.iter().for_each(|&number| visited[number] = true);
            position.epoch == 0
        });
        (0..examples.len()).filter(|&number| visited[number]).collect()
    }

    /// Shows the batches of a training, with where in the data they begin, until `look` has seen enough.
    fn foresee<X: TrainingExample>(&self, examples: &[X], mut look: impl FnMut(Position, &[usize]) -> bool) {
        let lengths = examples.iter().map(TrainingExample::tokens).collect();
        let mut sampler = Sampler::new(lengths, self.order, self.batch_size, Position::default());
        let steps = self.resolve_schedule(|epochs| sampler.batches_in(epochs)).total_steps;
        for _ in 0..steps.min(FORESEEN) {
            if !look(sampler.position(), sampler.batch()) {
                break;
            }
            sampler.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use collimate_run::team::{ALONE, Threads};

    #[test]
    fn advice_is_for_workers_that_would_have_nothing_to_do() {
        let cuts = Cuts { most: 4, mean: 2.5, tokens: 1800.0 };
        assert_eq!((cuts.advice(&ALONE), cuts.advice(&Threads::new(2)[0])), (None, None));
        assert_eq!(
            cuts.advice(&Threads::new(3)[0]).unwrap(),
            "a step has 2.5 micro-batches, and there are 3 workers: some have nothing to do; set \
             --max_tokens_per_micro_batch to 300 or less, or raise --per_device_train_batch_size"
        );
    }
}
