//! How long prompts and answers are, in tokens or in characters.

use std::collections::BTreeMap;

use collimate_data::JudgedTexts;
use collimate_model::Tokenizer;

use super::figures::{Lengths, Spread, Unit};
use crate::Error;
use crate::statistics::Estimate;

/// Rows that are tokenised at once, on all cores.
const BATCH_ROWS: usize = 256;

/// Takes rows and measures them. Memory: 12 bytes a row, 24 bytes a prompt, and the texts of a batch.
pub(super) struct Measure {
    tokenizer: Option<Tokenizer>,
    /// With the cluster of each.
    waiting: Vec<(u64, JudgedTexts)>,
    prompt: Vec<u32>,
    chosen: Vec<u32>,
    rejected: Vec<u32>,
    /// Of each cluster the pairs whose chosen answer is the longer one, and all; in an order that is always the same,
    /// so that sums are.
    chosen_longer: BTreeMap<u64, (u64, u64)>,
}

impl Measure {
    /// Counts this tokenizer's tokens, or characters where there is none.
    pub fn new(tokenizer: Option<Tokenizer>) -> Self {
        let (waiting, prompt, chosen, rejected) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { tokenizer, waiting, prompt, chosen, rejected, chosen_longer: BTreeMap::new() }
    }

    /// Takes a row; rows of one `cluster` are not independent.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn add(&mut self, cluster: u64, texts: JudgedTexts) -> Result<(), Error> {
        self.waiting.push((cluster, texts));
        if self.waiting.len() == BATCH_ROWS { self.measure() } else { Ok(()) }
    }

    /// The lengths of all rows.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn finish(mut self) -> Result<Lengths, Error> {
        self.measure()?;
        Ok(Lengths {
            unit: if self.tokenizer.is_some() { Unit::Tokens } else { Unit::Characters },
            prompt: spread(self.prompt),
            chosen: spread(self.chosen),
            rejected: spread(self.rejected),
            chosen_longer: (!self.chosen_longer.is_empty())
                .then(|| Estimate::clustered(self.chosen_longer.values().copied())),
        })
    }

    fn measure(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.waiting);
        let texts: Vec<&str> = rows
            .iter()
            .flat_map(|(_, row)| [Some(&row.prompt), row.chosen.as_ref(), row.rejected.as_ref()])
            .flatten()
            .map(String::as_str)
            .collect();
        let mut lengths = self.lengths(&texts)?.into_iter();
        for (cluster, row) in &rows {
            self.prompt.extend(lengths.next());
            let chosen = row.chosen.as_ref().and_then(|_| lengths.next());
            let rejected = row.rejected.as_ref().and_then(|_| lengths.next());
            self.chosen.extend(chosen);
            self.rejected.extend(rejected);
            if let (Some(chosen), Some(rejected)) = (chosen, rejected) {
                let (longer, pairs) = self.chosen_longer.entry(*cluster).or_default();
                *longer += u64::from(chosen > rejected);
                *pairs += 1;
            }
        }
        Ok(())
    }

    fn lengths(&self, texts: &[&str]) -> Result<Vec<u32>, Error> {
        let short = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        Ok(match &self.tokenizer {
            Some(tokenizer) => {
                tokenizer.encode_batch(texts, false)?.iter().map(|tokens| short(tokens.len())).collect()
            }
            None => texts.iter().map(|text| short(text.chars().count())).collect(),
        })
    }
}

/// The nearest-rank quantiles: the smallest length that at least such a share of all do not exceed.
fn spread(mut lengths: Vec<u32>) -> Option<Spread> {
    lengths.sort_unstable();
    let max = *lengths.last()?;
    // In whole numbers, so that a hundred rows have their 95th and not, by rounding, the 96th.
    let percentile = |percent: usize| lengths[(lengths.len() * percent).div_ceil(100) - 1];
    Some(Spread { median: percentile(50), p95: percentile(95), max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let of = |lengths: &[u32]| spread(lengths.to_vec()).map(|found| [found.median, found.p95, found.max]);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some([7, 7, 7]));
        assert_eq!(of(&[4, 1]), Some([1, 4, 4]));
        let hundred: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(of(&hundred), Some([50, 95, 100]));
        assert_eq!(of(&hundred[1..]), Some([50, 95, 99]));
    }
}
