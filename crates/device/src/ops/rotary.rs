//! Rotary position embedding: each pair (a, b) of a head's two halves is turned by the angle of its position.
//!
//! Su et al. 2021, in the layout of transformers' Llama.

use candle_core::{D, Result, Tensor};
pub(crate) use collimate_kernels::rotary::Turn;

/// Cosine and sine of the position of each row, scaled by the attention factor, [rows, 1, half] each.
#[derive(Debug, Clone)]
pub(crate) struct Angles {
    pub cos: Tensor,
    pub sin: Tensor,
}

/// Turns every head of x, [rows, heads, 2 × half], or turns its gradient back.
pub(crate) fn rotate(x: &Tensor, angles: &Angles, turn: Turn) -> Result<Tensor> {
    let half = angles.cos.dim(D::Minus1)?;
    let (a, b) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let Angles { cos, sin } = angles;
    let sin = &if turn == Turn::Forward { sin.clone() } else { sin.neg()? };
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], D::Minus1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_near, assert_slopes, host, tensor, weighed};
    use candle_core::{DType, Device};
    use collimate_kernels::rotary::RotaryTable;

    #[test]
    fn values_are_the_kernels_and_slopes_finite_differences() -> Result<()> {
        let (rows, heads, half) = (5, 2, 3);
        let table = RotaryTable::new(&[1.0, 0.3, 0.01], 1.5, rows);
        let x = tensor(&[rows, heads, 2 * half], 1)?;
        let mut expected = host(&x)?;
        for (position, row) in expected.chunks_mut(heads * 2 * half).enumerate() {
            table.apply(row, position, Turn::Forward);
        }
        let column = |values: &[f32]| Tensor::from_slice(values, (rows, 1, half), &Device::Cpu);
        let angles = Angles { cos: column(table.cosines())?, sin: column(table.sines())? };
        assert_near(&rotate(&x, &angles, Turn::Forward)?, &expected, 1e-6)?;
        let Angles { cos, sin } = angles;
        let angles = Angles { cos: cos.to_dtype(DType::F64)?, sin: sin.to_dtype(DType::F64)? };
        let loss = |x: &Tensor| weighed(&rotate(x, &angles, Turn::Forward)?, 2);
        assert_slopes(&x, loss, |x, d| rotate(&d(x)?, &angles, Turn::Backward))
    }
}
