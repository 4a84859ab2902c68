//! Rows of signed bytes with one scale each, as LLM.int8() has them.
//!
//! Source: Dettmers et al., LLM.int8() (<https://arxiv.org/abs/2208.07339>), as `int8_vectorwise_quant` and
//! `int8_vectorwise_dequant` of bitsandbytes have it, without outliers.

use super::largest;

/// What a byte times its row's scale is multiplied by: 1 / 127.
pub const INVERSE: f32 = 1.0 / 127.0;

/// A matrix in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct RowBytes {
    /// Row after row.
    pub codes: Vec<i8>,
    /// The largest magnitude of each row, which bitsandbytes calls `SCB`.
    pub scales: Vec<f32>,
}

impl RowBytes {
    /// Rounds a matrix with rows of `row` values, to the nearest, ties to even.
    pub fn quantise(values: &[f32], row: usize) -> Self {
        let mut codes = Vec::with_capacity(values.len());
        let scale = |values: &[f32]| {
            let largest = largest(values.iter().copied());
            let inverse = 127.0 / largest;
            // A row of zeros stays one: no number becomes 0.
            codes.extend(values.iter().map(|x| (x * inverse).round_ties_even() as i8));
            largest
        };
        let scales = values.chunks(row.max(1)).map(scale).collect();
        Self { codes, scales }
    }

    /// Undoes [`RowBytes::quantise`], but for the rounding.
    pub fn dequantise(&self, row: usize) -> Vec<f32> {
        let rows = self.codes.chunks(row.max(1)).zip(&self.scales);
        rows.flat_map(|(codes, scale)| codes.iter().map(move |&code| f32::from(code) * scale * INVERSE))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::recorded::Recorded;

    #[test]
    fn equals_bitsandbytes_to_the_bit() {
        let mut recorded = Recorded::bitsandbytes();
        recorded.skip_to_rows();
        let values = recorded.floats(5 * 77);
        let rows = RowBytes::quantise(&values, 77);
        let codes: Vec<u8> = rows.codes.iter().map(|code| code.cast_unsigned()).collect();
        assert_eq!(codes, recorded.bytes(5 * 77));
        assert_eq!(rows.scales, recorded.floats(5));
        assert_eq!(rows.dequantise(77), recorded.floats(5 * 77));
        assert_eq!(RowBytes::quantise(&[0.0; 6], 3).dequantise(3), [0.0; 6]);
    }
}
