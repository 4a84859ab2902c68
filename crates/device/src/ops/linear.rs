//! Linear layers, y = x·Wᵀ + b, with adapters beside some of their outputs.

use super::lora::{Beside, LoraGradients};
use super::multiply;
use candle_core::{DType, Result, Tensor};

/// A linear layer, or several with the same input: their outputs stand side by side.
#[derive(Debug)]
pub(crate) struct Linear {
    /// W, [outputs, inputs].
    pub weight: Tensor,
    /// b, [outputs].
    pub bias: Option<Tensor>,
}

impl Linear {
    /// y = x·Wᵀ + b with what the adapters add, which are in the order of their columns; x is [rows, inputs].
    pub fn forward(&self, x: &Tensor, beside: &[Beside]) -> Result<Tensor> {
        let mut y = product(x, &self.weight)?;
        if !beside.is_empty() {
            let (mut parts, mut end) = (Vec::new(), 0);
            for slot in beside {
                parts.push(y.narrow(1, end, slot.columns.start - end)?);
                let own = y.narrow(1, slot.columns.start, slot.columns.len())?;
                parts.push(slot.forward(&self.weight, x, &own)?);
                end = slot.columns.end;
            }
            parts.push(y.narrow(1, end, y.dim(1)? - end)?);
            parts.retain(|part| part.elem_count() > 0);
            y = Tensor::cat(&parts, 1)?;
        }
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// The gradient by x, from that by y, without what the adapters add to it: dy·W.
    pub fn input_gradient(&self, dy: &Tensor) -> Result<Tensor> {
        times(dy, &self.weight)
    }

    /// The gradients of each adapter, from that by y; what they add to the gradient by x is added to `dx`, if that is
    /// wanted.
    pub fn adapter_gradients(
        &self,
        beside: &[Beside],
        (x, dy): (&Tensor, &Tensor),
        dx: &mut Option<Tensor>,
    ) -> Result<Vec<LoraGradients>> {
        let gradients = beside.iter().map(|slot| {
            let dy = dy.narrow(1, slot.columns.start, slot.columns.len())?.contiguous()?;
            let (gradients, own) = slot.backward(&self.weight, (x, &dy), dx.is_some())?;
            if let (Some(sum), Some(own)) = (dx.as_mut(), own) {
                *sum = (&*sum + own)?;
            }
            Ok(gradients)
        });
        gradients.collect()
    }
}

/// x·Wᵀ, whatever W is held in.
pub(crate) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    times(x, &weight.t()?)
}

/// x·M: x is rounded to the type of M, and sums are in f32. On the CPU they stay in it; elsewhere candle rounds what it
/// multiplies in bf16 to bf16 again.
pub(crate) fn times(x: &Tensor, matrix: &Tensor) -> Result<Tensor> {
    let rounded = x.to_dtype(matrix.dtype())?;
    if matrix.dtype() == DType::BF16 && x.device().is_cpu() {
        return multiply(&rounded.to_dtype(x.dtype())?, &matrix.to_dtype(x.dtype())?);
    }
    multiply(&rounded, matrix)?.to_dtype(x.dtype())
}

/// The gradient by W, [outputs, inputs]: dyᵀ·x.
pub(crate) fn weight_gradient(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    multiply(&dy.t()?, x)
}

/// The gradient by b, [outputs].
pub(crate) fn bias_gradient(dy: &Tensor) -> Result<Tensor> {
    dy.sum(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_near, assert_slopes, host, tensor, weighed};

    const ROWS: usize = 5;
    const INPUTS: usize = 7;
    const OUTPUTS: usize = 9;

    #[test]
    fn values_equal_the_definition_and_slopes_finite_differences() -> Result<()> {
        let [x, w, b] = [[ROWS, INPUTS], [OUTPUTS, INPUTS], [1, OUTPUTS]]
            .map(|shape| tensor(&shape, shape[0] as u64)?.to_dtype(DType::F64));
        let (x, w, b) = (x?, w?, b?.squeeze(0)?);
        let of = |x: &Tensor, w: &Tensor, b: &Tensor| {
            Linear { weight: w.clone(), bias: Some(b.clone()) }.forward(x, &[])
        };
        let [hx, hw, hb] = [&x, &w, &b].map(host);
        let (hx, hw, hb) = (hx?, hw?, hb?);
        let expected: Vec<f32> = (0..ROWS * OUTPUTS)
            .map(|i| (i / OUTPUTS, i % OUTPUTS))
            .map(|(row, out)| {
                hb[out] + (0..INPUTS).map(|k| hx[row * INPUTS + k] * hw[out * INPUTS + k]).sum::<f32>()
            })
            .collect();
        let y = of(&x, &w, &b)?;
        assert_near(&y, &expected, 1e-6)?;
        let linear = Linear { weight: w.clone(), bias: Some(b.clone()) };
        assert_slopes(&x, |x| weighed(&of(x, &w, &b)?, 2), |_, d| linear.input_gradient(&d(&y)?))?;
        assert_slopes(&w, |w| weighed(&of(&x, w, &b)?, 2), |_, d| weight_gradient(&x, &d(&y)?))?;
        assert_slopes(&b, |b| weighed(&of(&x, &w, b)?, 2), |_, d| bias_gradient(&d(&y)?))
    }

    #[test]
    fn in_bf16_factors_are_rounded_and_sums_are_not() -> Result<()> {
        let (x, w) = (tensor(&[ROWS, INPUTS], 1)?, tensor(&[OUTPUTS, INPUTS], 2)?);
        let half = w.to_dtype(DType::BF16)?;
        let round = |x: &Tensor| x.to_dtype(DType::BF16)?.to_dtype(DType::F32);
        let expected = host(&round(&x)?.matmul(&round(&w)?.t()?)?)?;
        assert_near(&product(&x, &half)?, &expected, 1e-6)
    }
}
