//! A row of scores in blocks of neighbours: what is known of each block spares a look at most of the tokens.
//!
//! A vocabulary has more than 100,000 tokens, of which a few can be drawn. The largest score of each block bounds
//! the rest, and only blocks that reach the bound are read. The temperature changes no order, so it is applied to
//! what is read alone; as rounding keeps the order of quotients, nothing is missed.

use collimate_kernels::softmax::{BLOCK, block_exponentials, block_maxima};

use crate::filter::Candidate;

/// What is known of the blocks of one row. The buffers serve row after row.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    maxima: Vec<f32>,
    /// Σ e^(score / temperature - highest), where it was asked for.
    sums: Vec<f32>,
    scratch: Vec<f32>,
}

impl Blocks {
    /// Reads a row; whether all its scores are finite.
    pub fn read(&mut self, scores: &[f32]) -> bool {
        block_maxima(scores, &mut self.maxima)
    }

    /// The highest score; -∞ for none.
    pub fn highest(&self) -> f32 {
        self.maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// The token of the highest score, of equals the first; `None` if none is possible.
    pub fn most_likely(&self, scores: &[f32]) -> Option<u32> {
        let highest = self.highest();
        let block = self.maxima.iter().position(|&score| score == highest)?;
        let within = scores[block * BLOCK..].iter().position(|&score| score == highest)?;
        (highest > f32::NEG_INFINITY).then_some((block * BLOCK + within) as u32)
    }

    /// A score that at least `count` tokens reach; -∞ if there are not so many blocks.
    pub fn bound(&mut self, count: usize) -> f32 {
        if count == 0 || count > self.maxima.len() {
            return f32::NEG_INFINITY;
        }
        self.scratch.clone_from(&self.maxima);
        *self.scratch.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }

    /// The tokens whose score / temperature is at least `bound`, with that quotient, in the order of their ids.
    /// Tokens with a score of -∞ are left out.
    pub fn collect(&self, scores: &[f32], temperature: f32, bound: f32, out: &mut Vec<Candidate>) {
        out.clear();
        let reaches = |score: f32| score >= bound && score > f32::NEG_INFINITY;
        for (block, (&largest, scores)) in self.maxima.iter().zip(scores.chunks(BLOCK)).enumerate() {
            if reaches(largest / temperature) {
                let first = (block * BLOCK) as u32;
                let all = (first..).zip(scores).map(|(token, x)| Candidate { token, score: x / temperature });
                out.extend(all.filter(|candidate| reaches(candidate.score)));
            }
        }
    }

    /// Σ e^(score / temperature - highest / temperature) over all tokens.
    pub fn mass(&mut self, scores: &[f32], temperature: f32) -> f64 {
        block_exponentials(scores, temperature, self.highest() / temperature, &mut self.sums);
        self.sums.iter().copied().map(f64::from).sum()
    }

    /// The token at the share `position`, in [0, 1), of the probabilities added up in the order of the ids.
    pub fn draw(&mut self, scores: &[f32], temperature: f32, position: f64) -> Option<u32> {
        let target = position * self.mass(scores, temperature);
        let highest = f64::from(self.highest() / temperature);
        let mut reached = 0.0;
        let mut last = None;
        for (block, &sum) in self.sums.iter().enumerate() {
            let after = reached + f64::from(sum);
            if sum > 0.0 && after > target {
                for (token, x) in (block * BLOCK..).zip(&scores[block * BLOCK..]).take(BLOCK) {
                    let weight = (f64::from(x / temperature) - highest).exp();
                    reached += weight;
                    last = if weight > 0.0 { Some(token as u32) } else { last };
                    if reached > target {
                        return last;
                    }
                }
                // A block's sum may be rounded to a little more than its parts.
                return last;
            }
            reached = after;
        }
        self.most_likely(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Vec<f32> {
        (0..1_000).map(|i| ((i * 7919) % 1013) as f32 * 0.01).collect()
    }

    #[test]
    fn a_bound_is_reached_by_enough_and_collects_all_that_reach_it() {
        let (scores, mut blocks, mut found) = (row(), Blocks::default(), Vec::new());
        assert!(blocks.read(&scores));
        for count in [1, 3, 16, 17] {
            let bound = blocks.bound(count) / 1.7;
            blocks.collect(&scores, 1.7, bound, &mut found);
            let expected: Vec<u32> =
                (0..).zip(&scores).filter(|(_, x)| **x / 1.7 >= bound).map(|(t, _)| t).collect();
            assert_eq!(found.iter().map(|candidate| candidate.token).collect::<Vec<_>>(), expected);
            assert!(found.len() >= count, "{count}");
        }
        assert_eq!(found.len(), 1_000, "there are only 16 blocks");
    }

    #[test]
    fn a_draw_over_all_is_that_over_the_list_of_all() {
        let (scores, mut blocks, mut all) = (row(), Blocks::default(), Vec::new());
        blocks.read(&scores);
        blocks.collect(&scores, 1.3, f32::NEG_INFINITY, &mut all);
        let different = (0..2_000).filter(|&i| {
            let position = f64::from(i) / 2_000.0;
            blocks.draw(&scores, 1.3, position) != crate::filter::draw(&all, position)
        });
        // Where a position falls within a rounding of the border between two tokens.
        assert!(different.count() <= 2);
    }

    #[test]
    fn what_is_impossible_is_never_chosen() {
        let mut scores = vec![f32::NEG_INFINITY; 200];
        let mut blocks = Blocks::default();
        blocks.read(&scores);
        assert_eq!(blocks.most_likely(&scores), None);
        scores[130] = -3.0;
        blocks.read(&scores);
        for position in [0.0, 0.5, 1.0] {
            assert_eq!(blocks.draw(&scores, 1.0, position), Some(130));
        }
        assert_eq!(blocks.most_likely(&scores), Some(130));
    }
}
