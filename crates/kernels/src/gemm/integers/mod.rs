//! Products of integers: the right factor as unsigned integers with scales, the left one rounded to signed integers.
//!
//! The weights of a column come in groups of k. In each, with the rounded left factor a ≈ s·p and w = d·(q - z) + m,
//! Σ a·w = s·d·(Σ p·q - z·Σp) + m·s·Σp. The sum of integers is exact; what a group gives is added to the element by
//! one fused multiply-add, one more for a minimum, group after group. So an element depends on its row of A and on B
//! alone, as in f32, and all machines give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod left;
mod pack;
mod tile;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub(super) use left::{GROUP_WORDS, Quantised};
pub(super) use pack::Integers;

/// Columns of one panel: two vectors of 16, and a divisor of what the other panels have.
const PANEL: usize = 32;

#[cfg(test)]
pub(super) mod tests;
