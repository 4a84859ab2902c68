//! DoRA's gains: g = m / ‖W + scale · B·A‖, one number an output, by which the rows of the adapted weights are brought to
//! the lengths m.
//!
//! Liu et al. 2024, equation 5. To the gradient the norm is a constant (section 4.3).

use super::multiply;
use candle_core::{Result, Tensor};

/// What stretches the outputs of a module.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    /// g, [outputs].
    pub gains: Tensor,
    /// One by the norm, [outputs]; 0 where that is 0.
    inverse: Tensor,
}

impl Stretch {
    /// The stretch of a module with the weights W, [outputs, inputs], an adapter, and the magnitudes m, [outputs].
    pub fn new(weight: &Tensor, (a, b, scale): (&Tensor, &Tensor, f64), magnitudes: &Tensor) -> Result<Self> {
        let change = multiply(b, a)?.affine(scale, 0.0)?;
        let length = (weight.to_dtype(change.dtype())? + change)?.sqr()?.sum(1)?.sqrt()?;
        // Where a row is all zeros, 1 stands for its length, and the quotient is taken to 0.
        let there = length.gt(0.0)?.to_dtype(length.dtype())?;
        let inverse = (&there / (length + there.affine(-1.0, 1.0)?)?)?;
        Ok(Self { gains: (magnitudes * &inverse)?, inverse })
    }

    /// The gradient of the magnitudes, [outputs]: Σ dy · y' / norm over the rows, where y' is what is stretched.
    pub fn magnitude_gradient(&self, stretched: &Tensor, dy: &Tensor) -> Result<Tensor> {
        (stretched * dy)?.sum(0)? * &self.inverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::assert_near;
    use candle_core::Device;

    #[test]
    fn rows_get_their_lengths_and_zeros_stay() -> Result<()> {
        let device = &Device::Cpu;
        let weight = Tensor::new(&[[3.0f32, 1.0], [0.0, 0.0]], device)?;
        let (a, b) = (Tensor::new(&[[0.0f32, 1.0]], device)?, Tensor::new(&[[1.5f32], [0.0]], device)?);
        let stretch = Stretch::new(&weight, (&a, &b, 2.0), &Tensor::new(&[10.0f32, 7.0], device)?)?;
        // The first row is [3, 4], of length 5.
        assert_near(&stretch.gains, &[2.0, 0.0], 1e-7)?;
        assert_near(&stretch.inverse, &[0.2, 0.0], 1e-7)
    }
}
