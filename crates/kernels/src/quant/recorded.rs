//! Values recorded from other programs, read one after the other.

/// What is left of a recording.
pub(super) struct Recorded(&'static [u8]);

impl Recorded {
    /// What `fixtures/bnb.py` wrote.
    pub fn bitsandbytes() -> Self {
        Self(include_bytes!("../../fixtures/bnb.bin"))
    }

    pub fn bytes(&mut self, n: usize) -> &'static [u8] {
        let (bytes, rest) = self.0.split_at(n);
        self.0 = rest;
        bytes
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        self.bytes(4 * n).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    pub fn halves(&mut self, n: usize) -> Vec<f32> {
        self.bytes(2 * n)
            .as_chunks()
            .0
            .iter()
            .map(|bytes| half::f16::from_le_bytes(*bytes).to_f32())
            .collect()
    }

    /// Passes over what was recorded of the two dynamic maps.
    pub fn skip_to_four_bit(&mut self) {
        self.bytes(2 * (4 * 256 + 600 * (4 + 1 + 4) + 4 * 3));
    }

    /// Passes over what was recorded of all but rows of bytes.
    pub fn skip_to_rows(&mut self) {
        let (blocks, weights) = (300, 300 * 64);
        self.skip_to_four_bit();
        self.bytes(
            2 * (4 * 16
                + 2 * weights
                + weights / 2
                + 4 * blocks
                + 4 * 1024
                + 4
                + blocks
                + 4 * 2
                + 4 * blocks),
        );
    }
}
