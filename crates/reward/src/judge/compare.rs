//! `judge:MODEL`: how often a judge prefers a completion to others of its prompt.
//!
//! The completions of a prompt are compared in a ring, each with the next one, in both orders: of two that is one pair.
//! The reward is the share of its comparisons that a completion wins.

use std::ops::Range;

use collimate_judge::{Kind, Number, schema, verdict};
use collimate_run::Context;

use super::{Asked, Judge, asked};
use crate::{Error, Item, Result, Reward};

const NAME: &str = "judge";

/// A judge that compares.
pub struct JudgeCompare(pub Judge);

impl Reward for JudgeCompare {
    fn name(&self) -> &str {
        NAME
    }

    fn score(&mut self, items: &[Item<'_>], context: &Context) -> Result<Vec<f64>> {
        let mut orders = Vec::new();
        let mut start = 0;
        for group in items.chunk_by(|one, other| one.row == other.row) {
            orders.extend(ring(start..start + group.len()).map(|order| (start, order)));
            start += group.len();
        }
        // One of a prompt that has no other stands in no comparison.
        let mut tally = vec![(0.0, 0_u32); items.len()];
        let question = |&(start, [first, second]): &(usize, [usize; 2])| -> Result<Asked> {
            let completions = [first, second].map(|at| items[at].completion);
            asked(&items[first], &completions, &[first - start, second - start], Kind::Judge)
                .map_err(|reason| unjudged(&items[first], reason))
        };
        let questions = orders.iter().map(question).collect::<Result<Vec<_>>>()?;
        let verdicts = self.0.judge(NAME, &questions, (schema, verdict), context)?;
        for ((_, order), better) in orders.iter().zip(verdicts) {
            let won = match better {
                Number::First => [1.0, 0.0],
                Number::Second => [0.0, 1.0],
            };
            for (at, won) in order.iter().zip(won) {
                tally[*at].0 += won;
                tally[*at].1 += 1;
            }
        }
        let share = |(item, (won, times)): (&Item<'_>, (f64, u32))| match times {
            0 => Err(unjudged(item, "its prompt has no other completion to compare it with".to_owned())),
            times => Ok(won / f64::from(times)),
        };
        items.iter().zip(tally).map(share).collect()
    }
}

fn unjudged(item: &Item<'_>, reason: String) -> Error {
    Error::Row { reward: NAME.to_owned(), row: item.row, reason }
}

/// Who is compared with whom, the first answer before the second.
fn ring(group: Range<usize>) -> impl Iterator<Item = [usize; 2]> {
    let pairs = match group.len() {
        0 | 1 => 0,
        // The way back from the second to the first is the same pair.
        2 => 1,
        more => more,
    };
    let next = move |at: usize| if at + 1 < group.end { at + 1 } else { group.start };
    (0..pairs).map(move |step| group.start + step).flat_map(move |at| [[at, next(at)], [next(at), at]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_compares_each_with_the_next_in_both_orders() {
        let found = |group: Range<usize>| ring(group).collect::<Vec<_>>();
        assert_eq!(found(4..4), [[0; 2]; 0]);
        assert_eq!(found(4..5), [[0; 2]; 0]);
        assert_eq!(found(4..6), [[4, 5], [5, 4]]);
        assert_eq!(found(4..7), [[4, 5], [5, 4], [5, 6], [6, 5], [6, 4], [4, 6]]);
    }
}
