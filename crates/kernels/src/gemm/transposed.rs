//! Sums over rows, as the gradient of a weight is: C += Aᵀ·B, the rows of C shared out to the threads.

use super::{Into, Left, Target, multiply};
use rayon::prelude::*;

/// Rows of C that one task forms, some tiles of six.
const ROWS: usize = 48;
/// Rows of A and B that are used on all of a task's rows before the next ones.
const DEPTH: usize = 128;

/// C[n, k] += Aᵀ·B over `rows` rows of A, which start `a.1` apart, and of B, which are k = `b.1` wide; C is
/// contiguous, and n is its length by k.
///
/// Every element is one chain over the rows, in order, from the value that stood in C: no result depends on the
/// number of threads.
///
/// # Panics
/// When a factor is shorter than the sizes say.
pub fn add_transposed_product(rows: usize, a: (&[f32], usize), b: (&[f32], usize), c: &mut [f32]) {
    let (a, a_row) = a;
    let (b, width) = b;
    c.par_chunks_mut(ROWS * width).enumerate().for_each(|(task, c)| {
        for start in (0..rows).step_by(DEPTH) {
            let size = [c.len() / width, width, DEPTH.min(rows - start)];
            let left = Left::transposed(&a[start * a_row + task * ROWS..], a_row);
            let target = Target { data: &mut *c, row: width };
            multiply(size, left, (&b[start * width..], width), target, Into::Add);
        }
    });
}
