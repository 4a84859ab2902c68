//! Looks out for a well-known trap of preference training: chosen answers that become less and less likely.

use super::Watch;
use super::series::{Streak, value};
use crate::Record;

/// Log records in a row that must agree before anything is said.
const RECORDS: usize = 10;

/// Speaks when the chosen answers have been losing for long.
///
/// With a reference model they lose while their reward is below 0; without one, while their log-prob is below that of
/// all of the first records.
#[derive(Debug)]
pub(super) struct ChosenWatch {
    referenced: bool,
    /// The lowest log-prob of the first records, and how many of them there were.
    lowest: (f64, usize),
    losing: Streak,
}

impl ChosenWatch {
    /// A watch over an objective that compares with a reference model, or does not.
    pub fn new(referenced: bool) -> Self {
        Self { referenced, lowest: (f64::INFINITY, 0), losing: Streak::default() }
    }

    /// Whether the chosen answers are losing in this record; nothing where it says nothing of them.
    fn is_losing(&mut self, record: &Record) -> Option<bool> {
        if self.referenced {
            return Some(value(record, "rewards/chosen")? < 0.0);
        }
        let log_prob = value(record, "logps/chosen")?;
        let (lowest, records) = self.lowest;
        if records < RECORDS {
            self.lowest = (lowest.min(log_prob), records + 1);
            return Some(false);
        }
        Some(log_prob < lowest)
    }
}

impl Watch for ChosenWatch {
    fn look(&mut self, record: &Record) -> Option<String> {
        let losing = self.is_losing(record)?;
        let than = if self.referenced { "under the reference model" } else { "at the start" };
        self.losing.reaches(RECORDS, losing).then(|| {
            format!(
                "the chosen answers have been less likely than {than} in the last {RECORDS} log records: training \
                 pushes both answers down. A term of cross-entropy on the chosen ones (rpo_alpha, or sft among the \
                 losses), a lower learning_rate or a larger beta holds them up"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{history, seen};
    use super::*;

    #[test]
    fn a_reward_that_stays_below_zero_is_seen() {
        // Below 0 from the fourth record on.
        let falling = history("rewards/chosen", (0..30).map(|step| 0.1 - 0.05 * f64::from(step)));
        let (step, message) = seen(&mut ChosenWatch::new(true), &falling).unwrap();
        assert_eq!(step, 13);
        assert!(message.contains("under the reference model"));
    }

    #[test]
    fn one_record_that_recovers_starts_the_count_anew() {
        let mut values = vec![-1.0; 19];
        values[9] = 0.1;
        assert_eq!(seen(&mut ChosenWatch::new(true), &history("rewards/chosen", values)), None);
    }

    #[test]
    fn without_a_reference_the_first_records_are_the_measure() {
        let level = || (0..10).map(|i| -50.0 - f64::from(i % 3));
        let found = history("logps/chosen", level().chain((0..10).map(|i| -52.5 - f64::from(i))));
        let (step, message) = seen(&mut ChosenWatch::new(false), &found).unwrap();
        assert_eq!(step, 20);
        assert!(message.contains("at the start"));
        let steady = history("logps/chosen", level().chain([-52.0; 30]));
        assert_eq!(seen(&mut ChosenWatch::new(false), &steady), None);
    }
}
