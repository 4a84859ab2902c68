//! Finds texts that say almost the same: MinHash with locality-sensitive hashing, each match checked exactly.
//!
//! Source: Broder, "On the resemblance and containment of documents", 1997; Leskovec, Rajaraman and Ullman,
//! "Mining of Massive Datasets", chapter 3.

use std::collections::HashMap;

use collimate_run::random::stream;

use super::shingles::{jaccard, shingles};

/// Hash functions in a signature.
const HASHES: usize = 128;
/// A pair at the threshold is compared with at least this probability.
const RECALL: f64 = 0.999;
/// The most texts that one bucket holds. It bounds the work on a file whose rows are all a little alike; texts
/// beyond it can be missed, and none is ever dropped wrongly.
const BUCKET: usize = 64;

/// A kept text that a new one repeats.
pub(super) struct Match {
    /// Its number, counted from 0.
    pub index: usize,
    /// The Jaccard similarity of the two.
    pub similarity: f64,
}

/// The texts kept so far, as sets of shingle hashes (8 bytes for each word) under their band keys.
pub(super) struct NearDuplicates {
    threshold: f64,
    rows_in_band: usize,
    hashes: Vec<(u64, u64)>,
    buckets: HashMap<(usize, u64), Vec<usize>>,
    kept: Vec<Box<[u64]>>,
}

impl NearDuplicates {
    /// `threshold` in (0, 1]; `seed` draws the hash functions.
    pub fn new(threshold: f64, seed: u64) -> Self {
        let mut draws = stream(seed, &[]);
        // An odd multiplier makes the hash a permutation of the 64-bit numbers.
        let hashes = (0..HASHES).map(|_| (draws.next_u64() | 1, draws.next_u64())).collect();
        let (buckets, kept) = (HashMap::new(), Vec::new());
        Self { threshold, rows_in_band: rows_in_band(threshold), hashes, buckets, kept }
    }

    /// The most similar kept text from the threshold on; without one the text is kept itself.
    pub fn find_or_add(&mut self, text: &str) -> Option<Match> {
        let set = shingles(text);
        let keys = self.band_keys(&set);
        let found = self.candidates(&keys).into_iter().filter_map(|index| {
            let similarity = jaccard(&set, &self.kept[index]);
            (similarity >= self.threshold).then_some(Match { index, similarity })
        });
        let best = found.reduce(|best, next| if next.similarity > best.similarity { next } else { best });
        if best.is_none() {
            let index = self.kept.len();
            for key in keys {
                let bucket = self.buckets.entry(key).or_default();
                if bucket.len() < BUCKET {
                    bucket.push(index);
                }
            }
            self.kept.push(set);
        }
        best
    }

    /// The kept texts that share a band with this one, oldest first.
    fn candidates(&self, keys: &[(usize, u64)]) -> Vec<usize> {
        let buckets = keys.iter().filter_map(|key| self.buckets.get(key));
        let mut candidates: Vec<usize> = buckets.flatten().copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates
    }

    /// One key for each band of the signature.
    fn band_keys(&self, set: &[u64]) -> Vec<(usize, u64)> {
        let least = |(multiplier, offset): &(u64, u64)| {
            let hash =
                |shingle: &u64| shingle.wrapping_mul(*multiplier).wrapping_add(*offset).rotate_left(32);
            set.iter().map(hash).min().unwrap_or(u64::MAX)
        };
        let signature: Vec<u64> = self.hashes.iter().map(least).collect();
        let bands = signature.chunks_exact(self.rows_in_band).enumerate();
        bands.map(|(band, values)| (band, stream(0, values).at(0))).collect()
    }
}

/// The widest band with which a pair at the threshold still shares one with probability [`RECALL`]:
/// 1 - (1 - t^r)^b for b bands of r rows. Wide bands mean few comparisons.
fn rows_in_band(threshold: f64) -> usize {
    let recall = |rows: usize| 1.0 - (1.0 - threshold.powi(rows as i32)).powi((HASHES / rows) as i32);
    (1..=32).rev().find(|rows| recall(*rows) >= RECALL).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_fit_the_threshold() {
        // By hand: 1 - (1 - 0.9^8)^16 = 0.99988, and 1 - (1 - 0.9^9)^14 = 0.99893.
        assert_eq!(rows_in_band(0.9), 8);
        assert_eq!(rows_in_band(1.0), 32);
        assert_eq!(rows_in_band(0.01), 1);
    }

    /// 400 texts in 20 families, within which they share most words: every pair from the threshold on is found,
    /// and none below it, as comparing all pairs says.
    #[test]
    fn agrees_with_comparing_all_pairs() {
        let mut draws = stream(7, &[]);
        let text = |family: u64, draws: &mut collimate_run::random::Stream| {
            let word = |at| if draws.below(100) < 2 { draws.next_u64() } else { stream(family, &[at]).at(0) };
            (0..60).map(word).map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ")
        };
        let texts: Vec<String> = (0..400).map(|number| text(number % 20, &mut draws)).collect();
        let (mut near, mut kept) = (NearDuplicates::new(0.8, 42), Vec::<Box<[u64]>>::new());
        let (mut dropped, mut expected) = (0, 0);
        for text in &texts {
            let set = shingles(text);
            let repeats = kept.iter().any(|other| jaccard(&set, other) >= 0.8);
            let found = near.find_or_add(text);
            assert_eq!(found.is_some(), repeats);
            expected += usize::from(repeats);
            dropped += usize::from(found.is_some());
            if found.is_none() {
                kept.push(set);
            }
        }
        assert_eq!(dropped, expected);
        assert!((50..350).contains(&dropped), "the test needs both kinds: {dropped}");
    }
}
