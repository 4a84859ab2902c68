//! Looks out for a policy that runs away from its reference model.

use super::Watch;
use super::series::{Streak, value};
use crate::Record;

/// Log records in a row that must agree: a few batches of odd texts are no flight.
const RECORDS: usize = 5;

/// Speaks when `kl` stays above its bound.
///
/// A reward can be trusted near the texts that it was made for; far from them it goes on rising while what it stands
/// for falls (Gao et al. 2023, "Scaling laws for reward model overoptimization").
#[derive(Debug)]
pub(super) struct KlWatch {
    bound: f64,
    above: Streak,
}

impl KlWatch {
    /// A watch with this bound, in nats a token.
    pub fn new(bound: f64) -> Self {
        Self { bound, above: Streak::default() }
    }
}

impl Watch for KlWatch {
    fn look(&mut self, record: &Record) -> Option<String> {
        let kl = value(record, "kl")?;
        let bound = self.bound;
        self.above.reaches(RECORDS, kl > bound).then(|| {
            format!(
                "kl has been above {bound} nats a token in the last {RECORDS} log records: the policy has left the \
                 texts that its reference model writes, and rewards mean less and less there. A larger beta (of PPO: \
                 kl_coef), a lower learning_rate or fewer updates a batch hold it back; max_kl moves the bound"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{history, seen};
    use super::*;

    #[test]
    fn a_policy_that_stays_away_is_seen() {
        let found = history("kl", [0.0, 0.6, 1.1, 0.7, 0.6, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0]);
        let (step, message) = seen(&mut KlWatch::new(0.5), &found).unwrap();
        assert_eq!(step, 11);
        assert!(message.contains("above 0.5 nats"));
    }

    #[test]
    fn one_that_comes_back_is_not() {
        let found = history("kl", [0.0, 2.0, 2.0, 2.0, 2.0, 0.1, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(seen(&mut KlWatch::new(1.0), &found), None);
    }
}
