//! Memory of letters that were sent, for letters to come: gradients come and go in the same sizes, step after step, and
//! memory that is fresh from the system costs more than what is then put into it.

/// The largest number of buffers that are kept.
const KEPT: usize = 4;
/// Letters below this length are not worth it.
const SMALL: usize = 1 << 16;

/// Buffers that can be used again.
#[derive(Default)]
pub struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// Keeps the largest of these and of those it has.
    pub fn keep(&mut self, buffers: Vec<Vec<u8>>) {
        self.0.extend(buffers.into_iter().filter(|buffer| buffer.len() >= SMALL));
        self.0.sort_unstable_by_key(|buffer| std::cmp::Reverse(buffer.len()));
        self.0.truncate(KEPT);
    }

    /// A buffer of this length, with whatever is in it; of those that are kept, one that is hardly longer.
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| (length..=length + length / 2).contains(&buffer.len());
        match self.0.iter().rposition(fits) {
            Some(found) if length >= SMALL => {
                let mut buffer = self.0.swap_remove(found);
                buffer.truncate(length);
                buffer
            }
            _ => vec![0; length],
        }
    }
}
