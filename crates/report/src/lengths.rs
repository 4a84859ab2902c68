//! How long texts are: a histogram whose bars each reach to twice the length.

/// Texts shorter than this are in the first bar.
const SHORTEST: usize = 32;

/// Counts of texts by length in characters; of each text, one of several kinds.
#[derive(Debug)]
pub(crate) struct Lengths {
    /// By bar and kind.
    bars: Vec<Vec<u64>>,
    kinds: usize,
}

impl Lengths {
    /// No texts so far.
    pub fn new(kinds: usize) -> Self {
        Self { bars: Vec::new(), kinds }
    }

    /// Counts a text of a kind.
    pub fn add(&mut self, kind: usize, text: &str) {
        let doublings = text.chars().count() / SHORTEST;
        let bar = doublings.checked_ilog2().map_or(0, |power| power as usize + 1);
        if self.bars.len() <= bar {
            self.bars.resize_with(bar + 1, || vec![0; self.kinds]);
        }
        self.bars[bar][kind] += 1;
    }

    /// The bars from the shortest to the longest text: `64 to 127`, and the count of each kind.
    pub fn rows(&self) -> Vec<(String, Vec<u64>)> {
        let empty = |counts: &&Vec<u64>| counts.iter().all(|count| *count == 0);
        let first = self.bars.iter().take_while(empty).count();
        let named = |(bar, counts): (usize, &Vec<u64>)| match bar {
            0 => (format!("below {SHORTEST}"), counts.clone()),
            _ => (format!("{} to {}", SHORTEST << (bar - 1), (SHORTEST << bar) - 1), counts.clone()),
        };
        self.bars.iter().enumerate().skip(first).map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_reaches_to_twice_the_length() {
        let mut lengths = Lengths::new(2);
        for (kind, length) in [(0, 32), (0, 63), (1, 64), (1, 255), (0, 0)] {
            lengths.add(kind, &"原".repeat(length));
        }
        let row = |name: &str, counts: [u64; 2]| (name.to_owned(), counts.to_vec());
        let expected = [
            row("below 32", [1, 0]),
            row("32 to 63", [2, 0]),
            row("64 to 127", [0, 1]),
            row("128 to 255", [0, 1]),
        ];
        assert_eq!(lengths.rows(), expected);
        let mut long = Lengths::new(1);
        long.add(0, &"x".repeat(100));
        assert_eq!(long.rows(), [("64 to 127".to_owned(), vec![1])]);
    }
}
