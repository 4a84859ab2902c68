//! The Mersenne Twister exactly as CPython's `random.Random` seeds and uses it.

use crate::{Error, Result};

const STATE_WORDS: usize = 624;
const SHIFT_WORDS: usize = 397;

/// MT19937 with CPython's seeding and draws: same seed, same shuffle as `random.Random(seed)` there (3.11).
///
/// Source: Matsumoto and Nishimura, "Mersenne Twister", TOMACS 1998; CPython `Modules/_randommodule.c`
/// (bits) and `Lib/random.py` (draws).
#[derive(Debug, Clone)]
pub struct MersenneTwister {
    words: [u32; STATE_WORDS],
    next: usize,
}

impl MersenneTwister {
    /// As `random.Random(seed)`. CPython drops the sign of a seed; so for a negative one pass `unsigned_abs`.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        let mut words = initial_words(19_650_218);
        let mut i = 1;
        let mut j = 0;
        // `init_by_array` of the reference code; the key is never longer than the state.
        for _ in 0..STATE_WORDS {
            let mixed = (words[i - 1] ^ (words[i - 1] >> 30)).wrapping_mul(1_664_525);
            words[i] = (words[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            i = following(&mut words, i);
            j = (j + 1) % key.len();
        }
        for _ in 1..STATE_WORDS {
            let mixed = (words[i - 1] ^ (words[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            words[i] = (words[i] ^ mixed).wrapping_sub(i as u32);
            i = following(&mut words, i);
        }
        words[0] = 0x8000_0000;
        Self { words, next: STATE_WORDS }
    }

    /// As `random()`: a number in [0, 1), of 53 random bits.
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.next_word() >> 5);
        let low = f64::from(self.next_word() >> 6);
        (high * 67_108_864.0 + low) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// As `getrandbits(bits)`, for up to 64 bits; more are not drawn.
    pub fn getrandbits(&mut self, bits: u32) -> u64 {
        match bits.min(64) {
            0 => 0,
            few @ 1..=32 => u64::from(self.next_word() >> (32 - few)),
            many => {
                let low = u64::from(self.next_word());
                low | u64::from(self.next_word() >> (64 - many)) << 32
            }
        }
    }

    /// As `randrange(n)`: a whole number in 0..n, each equally likely; 0 for n = 0, without a draw.
    pub fn randbelow(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let bits = u64::BITS - n.leading_zeros();
        loop {
            let drawn = self.getrandbits(bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// As `shuffle(items)`, in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index_below(last + 1));
        }
    }

    /// As `sample(range(n), k)`: k different numbers of 0..n in the order drawn.
    ///
    /// # Errors
    /// [`Error::SampleTooLarge`] where k > n.
    pub fn sample(&mut self, n: usize, k: usize) -> Result<Vec<usize>> {
        if k > n {
            return Err(Error::SampleTooLarge { wanted: k, available: n });
        }
        if n <= pool_limit(k) { Ok(self.sample_from_pool(n, k)) } else { Ok(self.sample_by_rejection(n, k)) }
    }

    /// As `choice(items)`; `None` where there are none.
    pub fn choice<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.index_below(items.len());
        items.get(index)
    }

    fn sample_from_pool(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut pool: Vec<usize> = (0..n).collect();
        let draw = |taken: usize| {
            let index = self.index_below(n - taken);
            let item = pool[index];
            pool[index] = pool[n - taken - 1];
            item
        };
        (0..k).map(draw).collect()
    }

    fn sample_by_rejection(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut selected = std::collections::HashSet::with_capacity(k);
        let draw = |_| {
            loop {
                let index = self.index_below(n);
                if selected.insert(index) {
                    return index;
                }
            }
        };
        (0..k).map(draw).collect()
    }

    fn index_below(&mut self, n: usize) -> usize {
        self.randbelow(n as u64) as usize
    }

    fn next_word(&mut self) -> u32 {
        if self.next == STATE_WORDS {
            self.twist();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for i in 0..STATE_WORDS {
            let joined = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % STATE_WORDS] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[i] = self.words[(i + SHIFT_WORDS) % STATE_WORDS] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }
}

/// The size up to which CPython copies the population instead of remembering what it has drawn.
fn pool_limit(k: usize) -> usize {
    if k <= 5 {
        return 21;
    }
    let power = ((k as f64 * 3.0).ln() / 4_f64.ln()).ceil() as u32;
    4_usize.saturating_pow(power).saturating_add(21)
}

fn initial_words(seed: u32) -> [u32; STATE_WORDS] {
    let mut words = [seed; STATE_WORDS];
    for i in 1..STATE_WORDS {
        let mixed = (words[i - 1] ^ (words[i - 1] >> 30)).wrapping_mul(1_812_433_253);
        words[i] = mixed.wrapping_add(i as u32);
    }
    words
}

/// The place after `i`; past the end the last word is carried to the front.
fn following(words: &mut [u32; STATE_WORDS], i: usize) -> usize {
    if i + 1 < STATE_WORDS {
        return i + 1;
    }
    words[0] = words[STATE_WORDS - 1];
    1
}
