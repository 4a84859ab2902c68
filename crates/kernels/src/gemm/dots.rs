//! Products whose right factor has a handful of rows: every element is a dot product of two contiguous rows.

use super::{Left, Target};
use crate::simd::{LANES, sum, vectorised};

/// Rows of the right factor taken at once.
const BLOCK: usize = 8;

/// C[m, n] = A[m, k] · Bᵀ, with both factors' rows contiguous: `b` is row-major [n, k].
///
/// Made for small n, the rank of an adapter. Elements are summed in 16 lanes, so that an element depends on its
/// two rows alone.
///
/// # Panics
/// When a matrix is shorter than the sizes say, or A's rows are not contiguous.
pub fn dots(size: [usize; 3], a: Left<'_>, b: &[f32], c: Target<'_>) {
    assert_eq!(a.column, 1, "rows of the left factor must be contiguous");
    vectorised(
        #[inline(always)]
        || {
            let [m, n, k] = size;
            for i in 0..m {
                let left = &a.data[i * a.row..][..k];
                let row = &mut c.data[i * c.row..][..n];
                for (block, out) in row.chunks_mut(BLOCK).enumerate() {
                    let rows = &b[block * BLOCK * k..][..out.len() * k];
                    if let Ok(out) = <&mut [f32; BLOCK]>::try_from(&mut *out) {
                        *out = dot_block(left, rows);
                    } else {
                        for (out, right) in out.iter_mut().zip(rows.chunks_exact(k)) {
                            *out = dot_block::<1>(left, right)[0];
                        }
                    }
                }
            }
        },
    );
}

/// N dot products of `left` with the rows of `right`.
#[inline(always)]
fn dot_block<const N: usize>(left: &[f32], right: &[f32]) -> [f32; N] {
    let k = left.len();
    let whole = k - k % LANES;
    let mut lanes = [[0.0f32; LANES]; N];
    for start in (0..whole).step_by(LANES) {
        let left: &[f32; LANES] = left[start..start + LANES].try_into().unwrap_or(&[0.0; LANES]);
        for (n, lanes) in lanes.iter_mut().enumerate() {
            let right = &right[n * k + start..][..LANES];
            for l in 0..LANES {
                lanes[l] = left[l].mul_add(right[l], lanes[l]);
            }
        }
    }
    let mut out = [0.0; N];
    for (n, out) in out.iter_mut().enumerate() {
        for l in whole..k {
            lanes[n][l - whole] = left[l].mul_add(right[n * k + l], lanes[n][l - whole]);
        }
        *out = sum(lanes[n]);
    }
    out
}
