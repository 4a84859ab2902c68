//! Looks out for a policy that writes the same text again and again.

use super::Watch;
use super::series::{Beginning, Streak, value};
use crate::Record;

/// Share of the first records' entropy below which hardly a token is open any more: where one token in two had a true
/// alternative, now one in twenty has.
const SHARE: f64 = 0.1;

/// Log records in a row that must agree: a few easy prompts are no collapse.
const RECORDS: usize = 5;

/// Speaks when `entropy` stays at a small share of what it was in the first records.
///
/// A policy without entropy explores nothing, and its rewards stand still (Cui et al. 2025, "The entropy mechanism of
/// reinforcement learning for reasoning language models"; Yu et al. 2025, DAPO, section 3.1).
#[derive(Debug, Default)]
pub(super) struct EntropyWatch {
    beginning: Beginning,
    below: Streak,
}

impl Watch for EntropyWatch {
    fn look(&mut self, record: &Record) -> Option<String> {
        let entropy = value(record, "entropy")?;
        let first = self.beginning.before(entropy)?;
        self.below.reaches(RECORDS, entropy < SHARE * first).then(|| {
            format!(
                "entropy has been below a tenth of that of the first records ({entropy:.3} instead of {first:.3}) in \
                 the last {RECORDS} log records: the policy writes nearly the same text each time, and samples that \
                 are alike teach nothing. If the reward is not yet where it should be, a larger epsilon_high or \
                 beta, a higher temperature or a lower learning_rate keeps the policy open"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{history, seen};
    use super::*;

    #[test]
    fn a_collapse_is_seen() {
        let found =
            history("entropy", [1.1, 1.0, 0.9, 1.2, 0.8, 0.5, 0.09, 0.2, 0.09, 0.08, 0.07, 0.05, 0.02]);
        let (step, message) = seen(&mut EntropyWatch::default(), &found).unwrap();
        assert_eq!(step, 13);
        assert!(message.contains("(0.020 instead of 1.000)"), "{message}");
    }

    #[test]
    fn a_policy_that_grows_surer_is_not() {
        let found = history("entropy", [1.0; 5].into_iter().chain([0.11; 20]));
        assert_eq!(seen(&mut EntropyWatch::default(), &found), None);
    }
}
