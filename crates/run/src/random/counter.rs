//! Keyed streams: what is drawn depends on the key alone, never on the order in which keys are used.

/// Distance between counters: 2^64 divided by the golden ratio, made odd.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The stream under `seed` and `parts` (layer, row, sample number ...): same key, same draws, on every machine.
pub fn stream(seed: u64, parts: &[u64]) -> Stream {
    // Each part is mixed in before the next one arrives, so that [1, 2], [2, 1] and [3] differ.
    let absorb = |key: u64, part: &u64| mix(mix(key.wrapping_add(GOLDEN_GAMMA)) ^ mix(part.wrapping_add(1)));
    Stream { key: parts.iter().fold(seed, absorb), drawn: 0 }
}

/// SplitMix64, a counter-based generator: the nth draw can be had without those before it.
///
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    key: u64,
    drawn: u64,
}

impl Stream {
    /// The draw number `index` (from 0), wherever the stream stands.
    pub fn at(&self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let bits = self.at(self.drawn);
        self.drawn = self.drawn.wrapping_add(1);
        bits
    }

    /// The next number in [0, 1), of 53 random bits.
    pub fn random(&mut self) -> f64 {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * UNIT
    }

    /// The next whole number in 0..n, each equally likely; 0 for n = 0.
    ///
    /// Source: Lemire, "Fast Random Integer Generation in an Interval", TOMACS 2019.
    pub fn below(&mut self, n: u64) -> u64 {
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        let biased = n.wrapping_neg().checked_rem(n).unwrap_or(0);
        while (product as u64) < biased {
            product = u128::from(self.next_u64()) * u128::from(n);
        }
        (product >> 64) as u64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_parts_it_is_the_published_generator() {
        let mut draws = stream(1_234_567, &[]);
        let first: Vec<u64> = (0..5).map(|_| draws.next_u64()).collect();
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(first, published);
        assert_eq!(draws.at(2), published[2]);
    }

    #[test]
    fn every_part_and_its_place_counts() {
        let keys: [&[u64]; 7] = [&[], &[0], &[0, 0], &[1, 2], &[2, 1], &[3], &[1, 2, 0]];
        let firsts: std::collections::HashSet<u64> =
            keys.iter().map(|key| stream(42, key).next_u64()).collect();
        assert_eq!(firsts.len(), keys.len());
        assert_eq!(stream(42, &[1, 2]), stream(42, &[1, 2]));
    }

    #[test]
    fn draws_are_even() {
        let mut draws = stream(7, &[1]);
        let mut counts = [0_u32; 6];
        let mut sum = 0.0;
        for _ in 0..60_000 {
            counts[draws.below(6) as usize] += 1;
            sum += draws.random();
        }
        // Five standard deviations: sqrt(60000 / 6 * 5 / 6) = 91 for a count, sqrt(60000 / 12) = 71 for the sum.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 456), "{counts:?}");
        assert!((sum - 30_000.0_f64).abs() < 354.0, "{sum}");
        assert_eq!(draws.below(0), 0);
        assert_eq!(draws.below(1), 0);
    }
}
