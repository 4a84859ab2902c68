//! GGUF files made field by field, sound or not.

/// A GGUF file in the making: every count and length can be made to lie.
#[derive(Default)]
pub struct GgufBytes(pub Vec<u8>);

impl GgufBytes {
    /// Magic, version 3 and the counts.
    pub fn start(tensors: u64, pairs: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(pairs)
    }

    pub fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub fn text(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    /// A key with a text.
    pub fn text_pair(self, key: &str, value: &str) -> Self {
        self.text(key).u32(8).text(value)
    }

    /// A key with an unsigned number of 32 bits.
    pub fn number_pair(self, key: &str, value: u32) -> Self {
        self.text(key).u32(4).u32(value)
    }

    /// A tensor's entry: type number, offset, and the dimensions in the file's order.
    pub fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        self = self.text(name).u32(dimensions.len() as u32);
        for dimension in dimensions {
            self = self.u64(*dimension);
        }
        self.u32(kind).u64(offset)
    }

    /// Padding up to the data, and so many bytes of it.
    pub fn data(mut self, bytes: usize) -> Vec<u8> {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + bytes, 0);
        self.0
    }
}
