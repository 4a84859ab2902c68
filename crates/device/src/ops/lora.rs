//! LoRA beside the outputs of a linear layer: y += scale · B·(A·x'), where x' is the input of which a part may be dropped.
//!
//! Hu et al. 2021. With DoRA's gains g it is y += (g - 1) · x'·Wᵀ + g · scale · B·(A·x') instead.

use super::dora::Stretch;
use super::linear::{product, times};
use super::multiply;
use candle_core::{Result, Tensor};
use std::ops::Range;

/// An adapter beside one module.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    /// The module's columns in the outputs of its linear layer.
    pub columns: Range<usize>,
    /// A, [rank, inputs].
    pub a: Tensor,
    /// B, [outputs, rank].
    pub b: Tensor,
    /// What B·A is multiplied with.
    pub scale: f64,
    /// What DoRA does to the outputs.
    pub stretch: Option<Stretch>,
    /// What the input is multiplied with, [rows, inputs], where a part of it is dropped.
    pub mask: Option<Tensor>,
}

/// The gradients of an adapter's matrices and of its magnitudes, each in the shape of what it is of.
#[derive(Debug)]
pub(crate) struct LoraGradients {
    pub a: Tensor,
    pub b: Tensor,
    pub magnitude: Option<Tensor>,
}

impl Beside {
    /// The module's outputs, [rows, outputs], from what they are without the adapter: `y` = x·Wᵀ.
    pub fn forward(&self, weight: &Tensor, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let kept = self.kept(x)?;
        let own = product(&product(&kept, &self.a)?, &self.b)?.affine(self.scale, 0.0)?;
        let Some(Stretch { gains, .. }) = &self.stretch else { return y + own };
        let base = if self.mask.is_some() { self.base(weight, &kept)? } else { y.clone() };
        (y + base.broadcast_mul(&gains.affine(1.0, -1.0)?)?)? + own.broadcast_mul(gains)?
    }

    /// The gradients, from that by the module's outputs, [rows, outputs]; and what the adapter adds to the gradient by the
    /// input, if that is wanted.
    pub fn backward(
        &self,
        weight: &Tensor,
        (x, dy): (&Tensor, &Tensor),
        wanted: bool,
    ) -> Result<(LoraGradients, Option<Tensor>)> {
        let kept = self.kept(x)?;
        let reduced = product(&kept, &self.a)?;
        let by_own = match &self.stretch {
            Some(Stretch { gains, .. }) => dy.broadcast_mul(gains)?,
            None => dy.clone(),
        };
        let by_own = by_own.affine(self.scale, 0.0)?;
        let d_reduced = multiply(&by_own, &self.b)?;
        let a = multiply(&d_reduced.t()?, &kept)?;
        let b = multiply(&by_own.t()?, &reduced)?;
        let magnitude = match &self.stretch {
            None => None,
            Some(stretch) => {
                let own = product(&reduced, &self.b)?.affine(self.scale, 0.0)?;
                Some(stretch.magnitude_gradient(&(self.base(weight, &kept)? + own)?, dy)?)
            }
        };
        let gradients = LoraGradients { a, b, magnitude };
        if !wanted {
            return Ok((gradients, None));
        }
        let mut dx = multiply(&d_reduced, &self.a)?;
        if let Some(Stretch { gains, .. }) = &self.stretch {
            let excess = dy.broadcast_mul(&gains.affine(1.0, -1.0)?)?;
            dx = (dx + times(&excess, &self.rows_of(weight)?)?)?;
        }
        Ok((gradients, Some(self.kept(&dx)?)))
    }

    /// What is left of the input, or of the gradient by it.
    fn kept(&self, x: &Tensor) -> Result<Tensor> {
        match &self.mask {
            Some(mask) => x * mask,
            None => Ok(x.clone()),
        }
    }

    /// The module's rows of W.
    fn rows_of(&self, weight: &Tensor) -> Result<Tensor> {
        weight.narrow(0, self.columns.start, self.columns.len())
    }

    fn base(&self, weight: &Tensor, x: &Tensor) -> Result<Tensor> {
        product(x, &self.rows_of(weight)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_slopes, tensor, weighed};
    use crate::ops::linear::Linear;
    use candle_core::DType;
    use std::slice::from_ref;

    const ROWS: usize = 4;
    const INPUTS: usize = 6;
    const RANK: usize = 2;
    /// Of the module in the middle of three.
    const COLUMNS: Range<usize> = 3..8;
    const WIDTH: usize = 10;

    fn exact(shape: &[usize], seed: u64) -> Result<Tensor> {
        tensor(shape, seed)?.to_dtype(DType::F64)
    }

    /// An adapter with its layer; with DoRA's gains held fixed, as its gradient has the norms.
    fn adapted(dora: bool, dropped: bool) -> Result<(Linear, Beside)> {
        let linear = Linear { weight: exact(&[WIDTH, INPUTS], 1)?, bias: Some(exact(&[WIDTH], 4)?) };
        let (a, b) = (exact(&[RANK, INPUTS], 5)?, exact(&[COLUMNS.len(), RANK], 6)?);
        let scale = 1.7;
        let rows = linear.weight.narrow(0, COLUMNS.start, COLUMNS.len())?;
        let magnitudes = exact(&[COLUMNS.len()], 7)?.affine(0.5, 2.0)?;
        let stretch = dora.then(|| Stretch::new(&rows, (&a, &b, scale), &magnitudes)).transpose()?;
        let mask = exact(&[ROWS, INPUTS], 8)?.ge(-0.3)?.to_dtype(DType::F64)?.affine(1.4, 0.0)?;
        let mask = dropped.then_some(mask);
        Ok((linear, Beside { columns: COLUMNS, a, b, scale, stretch, mask }))
    }

    #[test]
    fn slopes_equal_finite_differences() -> Result<()> {
        for (dora, dropped) in [(false, false), (false, true), (true, false), (true, true)] {
            let (linear, slot) = adapted(dora, dropped)?;
            let x = exact(&[ROWS, INPUTS], 9)?;
            let loss = |x: &Tensor, slot: &Beside| weighed(&linear.forward(x, from_ref(slot))?, 2);
            let gradients = |d: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<_> {
                let dy = d(&linear.forward(&x, from_ref(&slot))?)?;
                let mut dx = Some(linear.input_gradient(&dy)?);
                let own = linear.adapter_gradients(from_ref(&slot), (&x, &dy), &mut dx)?.remove(0);
                Ok((own, dx))
            };
            assert_slopes(&x, |x| loss(x, &slot), |_, d| Ok(gradients(d)?.1.unwrap_or(x.clone())))?;
            let with_a = |a: &Tensor| loss(&x, &Beside { a: a.clone(), ..slot.clone() });
            assert_slopes(&slot.a, with_a, |_, d| Ok(gradients(d)?.0.a))?;
            let with_b = |b: &Tensor| loss(&x, &Beside { b: b.clone(), ..slot.clone() });
            assert_slopes(&slot.b, with_b, |_, d| Ok(gradients(d)?.0.b))?;
        }
        Ok(())
    }

    #[test]
    fn magnitudes_have_the_slopes_of_finite_differences() -> Result<()> {
        for dropped in [false, true] {
            let (linear, slot) = adapted(true, dropped)?;
            let (x, rows) = (exact(&[ROWS, INPUTS], 9)?, slot.rows_of(&linear.weight)?);
            let magnitudes = exact(&[COLUMNS.len()], 7)?.affine(0.5, 2.0)?;
            let with = |magnitudes: &Tensor| -> Result<Beside> {
                let stretch = Stretch::new(&rows, (&slot.a, &slot.b, slot.scale), magnitudes)?;
                Ok(Beside { stretch: Some(stretch), ..slot.clone() })
            };
            let loss = |magnitudes: &Tensor| weighed(&linear.forward(&x, &[with(magnitudes)?])?, 2);
            assert_slopes(&magnitudes, loss, |magnitudes, d| {
                let slot = with(magnitudes)?;
                let dy = d(&linear.forward(&x, from_ref(&slot))?)?;
                let own = linear.adapter_gradients(&[slot], (&x, &dy), &mut None)?.remove(0);
                Ok(own.magnitude.unwrap_or(own.a))
            })?;
        }
        Ok(())
    }
}
