//! Left factors rounded to integers on the fly, row by row and group by group.

use super::super::tile::Left;
use crate::quant::{Form, largest};
use crate::simd::vectorised;

/// Words that a group takes beside its integers: scale s, start -z·Σp, and s·Σp.
pub(in super::super) const GROUP_WORDS: usize = 3;

/// The largest integer that a value is rounded to.
pub(super) const LARGEST: f32 = 127.0;

/// A left factor of signed bytes, each row filled up to whole groups with zeros.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Quantised<'a> {
    /// Row after row.
    pub bytes: &'a [i8],
    /// Scale, start and weighted sum of each group, row after row.
    pub groups: &'a [[f32; GROUP_WORDS]],
}

impl<'a> Quantised<'a> {
    /// Rounds A[m, k] for a right factor of this form. Spaces are for a quarter as many words as the integers of
    /// whole groups, and for [`GROUP_WORDS`] a group.
    ///
    /// # Panics
    /// When A's rows are not contiguous, or a space is too short.
    pub fn new(form: Form, [m, k]: [usize; 2], a: Left<'_>, [bytes, groups]: [&'a mut [f32]; 2]) -> Self {
        assert_eq!(a.column, 1, "rows of the left factor must be contiguous");
        // SAFETY: a word is 4 bytes, and any bits are values of both types.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<i8>(), 4 * bytes.len()) };
        let (groups, count) = (groups.as_chunks_mut().0, k.div_ceil(form.group));
        assert!(m * count <= groups.len() && m * count * form.group <= bytes.len(), "space too short");
        vectorised(
            #[inline(always)]
            || {
                for i in 0..m {
                    let values = a.data[i * a.row..][..k].chunks(form.group);
                    let bytes = bytes[i * count * form.group..].chunks_exact_mut(form.group);
                    for ((values, bytes), group) in values.zip(bytes).zip(&mut groups[i * count..]) {
                        *group = round(form, values, bytes);
                    }
                }
            },
        );
        Self { bytes, groups }
    }
}

/// Rounds one group, to the nearest, ties to even.
#[inline(always)]
fn round(form: Form, values: &[f32], bytes: &mut [i8]) -> [f32; GROUP_WORDS] {
    /// 1.5 × 2²³: adding it rounds to an integer, whose last byte is then that of the sum.
    const ROUND: f32 = 12_582_912.0;
    let largest = largest(values.iter().copied());
    let inverse = if largest == 0.0 { 0.0 } else { LARGEST / largest };
    for (byte, x) in bytes.iter_mut().zip(values) {
        *byte = x.mul_add(inverse, ROUND).to_bits() as i8;
    }
    bytes[values.len()..].fill(0);
    let (scale, sum) = (largest / LARGEST, bytes.iter().map(|&p| i32::from(p)).sum::<i32>());
    let start = -i32::from(form.zero) * sum;
    [scale, f32::from_bits(start.cast_unsigned()), scale * sum as f32]
}
