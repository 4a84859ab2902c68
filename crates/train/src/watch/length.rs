//! Looks out for completions that grow and grow, or that are all cut before they end.

use super::Watch;
use super::series::{Beginning, Streak, value};
use crate::Record;

/// Log records in a row that must agree on growth: a few prompts that ask for much are none.
const LONG: usize = 5;

/// Share of completions that are cut which is as good as all.
const NEARLY_ALL: f64 = 0.95;

/// Log records in a row with nearly all completions cut: a model without the habit of ending is given time to learn it.
const CUT: usize = 10;

/// Speaks when `completions/mean_length` stays at a multiple of what it was in the first records.
///
/// Rewards that are learnt from people pay for length, whatever is said (Singhal et al. 2023, "A long way to go").
#[derive(Debug)]
pub(super) struct GrowthWatch {
    bound: f64,
    beginning: Beginning,
    above: Streak,
}

impl GrowthWatch {
    /// A watch with this bound, in lengths of the first records' completions.
    pub fn new(bound: f64) -> Self {
        Self { bound, beginning: Beginning::default(), above: Streak::default() }
    }
}

impl Watch for GrowthWatch {
    fn look(&mut self, record: &Record) -> Option<String> {
        let length = value(record, "completions/mean_length")?;
        let first = self.beginning.before(length)?;
        let bound = self.bound;
        self.above.reaches(LONG, length > bound * first).then(|| {
            format!(
                "completions have been more than {bound} times as long as in the first records ({length:.0} tokens \
                 instead of {first:.0}) in the last {LONG} log records: the reward may be paying for length. Read \
                 some of completions.jsonl; a reward that takes length off, a larger beta or a smaller \
                 max_completion_length holds them back; max_length_growth moves the bound"
            )
        })
    }
}

/// Speaks when `completions/clipped_ratio` stays near 1.
#[derive(Debug, Default)]
pub(super) struct CutWatch {
    cut: Streak,
}

impl Watch for CutWatch {
    fn look(&mut self, record: &Record) -> Option<String> {
        let share = value(record, "completions/clipped_ratio")?;
        self.cut.reaches(CUT, share >= NEARLY_ALL).then(|| {
            format!(
                "nearly all completions have been cut at max_completion_length in the last {CUT} log records: the \
                 reward sees beginnings, and nothing teaches the model to end. Raise max_completion_length, reward \
                 completions that end, or begin with a model that was fine-tuned to end its answers"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{history, seen};
    use super::*;

    #[test]
    fn completions_that_stay_long_are_seen() {
        let lengths =
            [90.0, 100.0, 110.0, 100.0, 100.0, 205.0, 210.0, 190.0, 220.0, 250.0, 300.0, 350.0, 400.0];
        let (step, message) =
            seen(&mut GrowthWatch::new(2.0), &history("completions/mean_length", lengths)).unwrap();
        assert_eq!(step, 13);
        assert!(message.contains("(400 tokens instead of 100)"), "{message}");
    }

    #[test]
    fn completions_of_any_steady_length_are_not() {
        let lengths = [100.0; 5].into_iter().chain([200.0; 20]);
        assert_eq!(seen(&mut GrowthWatch::new(2.0), &history("completions/mean_length", lengths)), None);
    }

    #[test]
    fn completions_that_never_end_are_seen() {
        let found = history("completions/clipped_ratio", [0.2].into_iter().chain([0.97; 10]));
        assert_eq!(seen(&mut CutWatch::default(), &found).unwrap().0, 11);
    }

    #[test]
    fn completions_that_learn_to_end_are_not() {
        let shares = [1.0; 9].into_iter().chain([0.9]).chain([1.0; 9]);
        assert_eq!(seen(&mut CutWatch::default(), &history("completions/clipped_ratio", shares)), None);
    }
}
