//! What watches remember of a metric: how it began, and for how many records it has been out of bounds.

use crate::Record;

/// Records that show how a metric began: one alone may be of a single prompt.
const FIRST: u32 = 5;

/// The value of a metric, where a record has one.
pub(super) fn value(record: &Record, metric: &str) -> Option<f64> {
    record.get(metric)?.as_f64()
}

/// How a metric began: its mean over the first records that have it.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    sum: f64,
    records: u32,
}

impl Beginning {
    /// The mean that this later value is held against; nothing while values still belong to the beginning.
    pub fn before(&mut self, value: f64) -> Option<f64> {
        if self.records == FIRST {
            return Some(self.sum / f64::from(FIRST));
        }
        self.sum += value;
        self.records += 1;
        None
    }
}

/// Records in a row of which something is true.
#[derive(Debug, Default)]
pub(super) struct Streak(usize);

impl Streak {
    /// Whether it is now true of that many in a row.
    pub fn reaches(&mut self, records: usize, is_true: bool) -> bool {
        self.0 = if is_true { self.0 + 1 } else { 0 };
        self.0 >= records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_the_mean_of_its_records() {
        let mut beginning = Beginning::default();
        assert_eq!(
            [1.0, 2.0, 6.0, 2.0, 4.0, 9.0, 0.0].map(|value| beginning.before(value)),
            [None, None, None, None, None, Some(3.0), Some(3.0)]
        );
    }

    #[test]
    fn a_streak_ends_with_the_first_that_differs() {
        let mut streak = Streak::default();
        let found = [true, false, true, true, true, false].map(|is_true| streak.reaches(2, is_true));
        assert_eq!(found, [false, false, false, true, true, false]);
    }
}
