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
}
