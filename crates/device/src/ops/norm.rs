//! RMS norm over the last dimension: y = x · w / √(mean(x²) + ε) (Zhang and Sennrich 2019).

use candle_core::{D, Result, Tensor};

/// The norm of every row of x, [.., width], by the weight w, [width].
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    x.broadcast_mul(&inverse_rms(x, epsilon)?)?.broadcast_mul(weight)
}

/// The gradient by x, from the gradient by y: with r = 1 / rms(x), dx = r · w · dy - x · r³ · mean(w · dy · x).
pub(crate) fn rms_norm_backward(x: &Tensor, weight: &Tensor, epsilon: f64, dy: &Tensor) -> Result<Tensor> {
    let scale = inverse_rms(x, epsilon)?;
    let by_scaled = dy.broadcast_mul(weight)?;
    let mean = (&by_scaled * x)?.mean_keepdim(D::Minus1)?;
    let back = (scale.powf(3.0)? * mean)?;
    by_scaled.broadcast_mul(&scale)? - x.broadcast_mul(&back)?
}

/// The gradient by w, [width]: Σ dy · x / rms(x) over the rows.
pub(crate) fn rms_norm_weight_gradient(x: &Tensor, epsilon: f64, dy: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let products = (x.broadcast_mul(&inverse_rms(x, epsilon)?)? * dy)?;
    products.reshape(((), width))?.sum(0)
}

/// 1 / √(mean(x²) + ε), [.., 1].
fn inverse_rms(x: &Tensor, epsilon: f64) -> Result<Tensor> {
    x.sqr()?.mean_keepdim(D::Minus1)?.affine(1.0, epsilon)?.sqrt()?.recip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_near, assert_slopes, host, tensor, weighed};
    use collimate_kernels::norm::rms_norm as reference;

    #[test]
    fn values_are_the_kernels_and_slopes_finite_differences() -> Result<()> {
        let epsilon = 1e-3;
        for shape in [vec![5, 12], vec![3, 2, 7]] {
            let (x, width) = (tensor(&shape, 1)?, shape[shape.len() - 1]);
            let w = tensor(&[width], 3)?;
            let mut expected = vec![0.0; x.elem_count()];
            reference(&host(&x)?, &host(&w)?, epsilon as f32, &mut expected);
            assert_near(&rms_norm(&x, &w, epsilon)?, &expected, 1e-6)?;

            let [x64, w64] = [&x, &w].map(|x| x.to_dtype(candle_core::DType::F64));
            let (x64, w64) = (x64?, w64?);
            let by_x = |x: &Tensor| weighed(&rms_norm(x, &w64, epsilon)?, 2);
            assert_slopes(&x, by_x, |x, d| rms_norm_backward(x, &w64, epsilon, &d(x)?))?;
            let by_w = |w: &Tensor| weighed(&rms_norm(&x64, w, epsilon)?, 2);
            assert_slopes(&w, by_w, |_, d| rms_norm_weight_gradient(&x64, epsilon, &d(&x64)?))?;
        }
        Ok(())
    }
}
