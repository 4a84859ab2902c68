//! Matrix products: C = A·B, or C += A·B, in f32, with both factors rounded to bf16 and sums in f32, or with both as
//! integers in groups that share a scale.
//!
//! In f32 every element of C is one chain of fused multiply-adds over the inner dimension, in order, from the value
//! that stood in C (or zero). So a row's result depends on that row of A and on B alone: never on how many
//! rows there are, how the work is cut, or how wide the machine's vectors are.

mod dots;
mod frozen;
mod integers;
mod pack;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_pairs.rs")]
mod pairs;
mod tile;
mod transposed;

pub use dots::dots;
pub use frozen::Frozen;
pub use pack::{Packed, Part};
pub(crate) use tile::{Destination, multiply_into};
pub use tile::{Left, Target, multiply};
pub use transposed::add_transposed_product;

/// Columns of one panel of a packed factor: four vectors of 16, and a multiple of what narrower machines take.
const PANEL: usize = 64;

/// Whether this machine multiplies bf16, as AVX-512's extension of that name does.
pub(crate) fn multiplies_bfloat16() -> bool {
    pairs::Unit::detect().is_some()
}

/// Whether a product replaces what stands in C or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// C = A·B.
    Replace,
    /// C += A·B.
    Add,
}

/// A target whose columns are written by several threads.
struct Shared(*mut f32);

// SAFETY: each thread writes columns of its own; where they point to is up to the callers of `at`.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// As for pointer arithmetic: inside the target.
    unsafe fn at(&self, column: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(column) }
    }
}

#[cfg(test)]
mod tests;
