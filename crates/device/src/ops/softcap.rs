//! Soft caps: s = c · tanh(x / c), so that no |s| is above c.
//!
//! Gemma 2, Riviere et al. 2024, section 2.

use candle_core::{Result, Tensor};

/// c · tanh(x / c) of every value, where there is a cap.
pub(crate) fn softcap(x: &Tensor, cap: Option<f64>) -> Result<Tensor> {
    let Some(cap) = cap else { return Ok(x.clone()) };
    x.affine(1.0 / cap, 0.0)?.tanh()?.affine(cap, 0.0)
}

/// The gradient by x, from the capped values s and the gradient by them: ds · (1 - (s / c)²).
pub(crate) fn softcap_backward(capped: &Tensor, cap: Option<f64>, d_capped: &Tensor) -> Result<Tensor> {
    let Some(cap) = cap else { return Ok(d_capped.clone()) };
    d_capped * capped.affine(1.0 / cap, 0.0)?.sqr()?.affine(-1.0, 1.0)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_near, assert_slopes, host, tensor, weighed};
    use collimate_kernels::softcap::softcap as reference;

    #[test]
    fn values_are_the_kernels_and_slopes_finite_differences() -> Result<()> {
        let x = (tensor(&[7, 9], 1)? * 40.0)?;
        let mut expected = host(&x)?;
        reference(&mut expected, 1.0, 30.0);
        assert_near(&softcap(&x, Some(30.0))?, &expected, 1e-5)?;
        assert_near(&softcap(&x, None)?, &host(&x)?, 0.0)?;
        for cap in [None, Some(30.0)] {
            let loss = |x: &Tensor| weighed(&softcap(x, cap)?, 2);
            assert_slopes(&x, loss, |x, d| softcap_backward(&softcap(x, cap)?, cap, &d(&softcap(x, cap)?)?))?;
        }
        Ok(())
    }
}
