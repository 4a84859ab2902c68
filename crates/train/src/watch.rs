//! Looks out for a well-known trap of preference training: chosen answers that become less and less likely.

use crate::Record;

/// Log records in a row that must agree before anything is said.
const RECORDS: usize = 10;

/// Warns once when the chosen answers have been losing for long.
///
/// With a reference model they lose while their reward is below 0; without one, while their log-prob is below that of
/// all of the first records.
#[derive(Debug)]
pub(crate) struct ChosenWatch {
    referenced: bool,
    warned: bool,
}

impl ChosenWatch {
    /// A watch over an objective that compares with a reference model, or does not.
    pub fn new(referenced: bool) -> Self {
        Self { referenced, warned: false }
    }

    /// What there is to say after the last of these records.
    pub fn look(&mut self, history: &[Record]) -> Option<String> {
        if self.warned {
            return None;
        }
        let (name, than) = match self.referenced {
            true => ("rewards/chosen", "under the reference model"),
            false => ("logps/chosen", "at the start"),
        };
        let values: Vec<f64> = history.iter().filter_map(|record| record.get(name)?.as_f64()).collect();
        let before = values.len().checked_sub(RECORDS)?;
        let bound = if self.referenced {
            0.0
        } else {
            values[..before].iter().take(RECORDS).copied().fold(f64::INFINITY, f64::min)
        };
        let enough = self.referenced || before >= RECORDS;
        self.warned = enough && values[before..].iter().all(|&value| value < bound);
        self.warned.then(|| {
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
    use super::*;
    use serde_json::json;

    fn history(name: &str, values: impl IntoIterator<Item = f64>) -> Vec<Record> {
        values.into_iter().map(|value| Record::from_iter([(name.to_owned(), json!(value))])).collect()
    }

    #[test]
    fn a_reward_that_stays_below_zero_is_said_once() {
        let mut watch = ChosenWatch::new(true);
        let falling = history("rewards/chosen", (0..30).map(|step| 0.1 - 0.05 * f64::from(step)));
        // Below 0 from the record of step 3 on.
        assert_eq!(watch.look(&falling[..12]), None);
        assert!(watch.look(&falling[..13]).unwrap().contains("under the reference model"));
        assert_eq!(watch.look(&falling), None);
    }

    #[test]
    fn one_record_that_recovers_starts_the_count_anew() {
        let mut values = vec![-1.0; 19];
        values[9] = 0.1;
        let found = history("rewards/chosen", values);
        let mut watch = ChosenWatch::new(true);
        assert!((1..=19).all(|end| watch.look(&found[..end]).is_none()));
    }

    #[test]
    fn without_a_reference_the_first_records_are_the_measure() {
        let mut watch = ChosenWatch::new(false);
        let level = (0..10).map(|i| -50.0 - f64::from(i % 3));
        let found = history("logps/chosen", level.chain((0..10).map(|i| -52.5 - f64::from(i))));
        assert_eq!(watch.look(&found[..19]), None);
        assert!(watch.look(&found).unwrap().contains("at the start"));
    }
}
