//! DoRA: beside each adapted layer, y = x·Wᵀ + b + (g - 1)·(x'·Wᵀ) + g·scale·B·A·x' with x' = drop(x) and
//! g = m / ‖W + scale·B·A‖, one number an output.
//!
//! The norm is a constant to the gradient (Liu et al. 2024, section 4.3). Without dropout y is
//! g·(x·Wᵀ + scale·B·A·x) + b. The norm is formed of products with the weights as they are held:
//! ‖w + scale·b·A‖² = ‖w‖² + 2·scale·b·(A·w) + scale²·b·(A·Aᵀ)·b for each row w of W and b of B.

use super::CpuEngine;
use super::adapter::{Adapter, Block};
use super::linear::Linear;
use crate::Result;
use crate::check::check_adapter;
use collimate_kernels::gemm::{Left, Target, dots};
use collimate_kernels::parallel::with_scratch;
use collimate_model::{Lora, LoraSlot, Module, gain};
use std::ops::Range;

/// What stretches the outputs of one linear layer.
#[derive(Debug)]
pub(super) struct Stretch {
    /// g: the magnitude of each output by its norm, [outputs].
    pub gains: Vec<f32>,
    /// One by the norm, [outputs]; 0 where that is 0.
    inverse: Vec<f32>,
    /// (1 - g)·b: what keeps the bias as it is, [outputs]; empty where there is none.
    shift: Vec<f32>,
}

impl Stretch {
    /// The stretch of a slot, as its values and the weights are; none of a plain one. `columns` are those of its
    /// outputs in `linear`.
    pub fn new(lora: &Lora, slot: &LoraSlot, linear: &Linear, columns: Range<usize>) -> Option<Self> {
        let magnitudes = &lora.values[slot.magnitude.clone()?];
        let lengths = lengths(lora, slot, linear, columns.clone());
        let gains: Vec<f32> = magnitudes.iter().zip(&lengths).map(|(&m, &length)| gain(m, length)).collect();
        let inverse = lengths.iter().map(|&length| gain(1.0, length)).collect();
        let bias = linear.bias().get(columns).unwrap_or_default();
        let shift = bias.iter().zip(&gains).map(|(bias, gain)| (1.0 - gain) * bias).collect();
        Some(Self { gains, inverse, shift })
    }

    /// y = g·(y - b) + b for rows of `row` values.
    fn apply(&self, y: &mut [f32], row: usize) {
        for y in y.chunks_mut(row) {
            y.iter_mut().zip(&self.gains).for_each(|(y, gain)| *y *= gain);
            y.iter_mut().zip(&self.shift).for_each(|(y, shift)| *y += shift);
        }
    }

    /// y += (g - 1)·product, for rows of `row` values.
    fn add_excess(&self, product: &[f32], y: &mut [f32], row: usize) {
        for (y, product) in y.chunks_mut(row).zip(product.chunks(row)) {
            let values = y.iter_mut().zip(product).zip(&self.gains);
            values.for_each(|((y, product), gain)| *y += (gain - 1.0) * product);
        }
    }
}

/// ‖w + scale·b·A‖ for each row w of W and b of B, [outputs].
fn lengths(lora: &Lora, slot: &LoraSlot, linear: &Linear, columns: Range<usize>) -> Vec<f32> {
    let (a, b) = (&lora.values[slot.a.clone()], &lora.values[slot.b.clone()]);
    let (rank, inputs, row) = (slot.rank, slot.inputs, linear.outputs());
    let (mut products, mut gram) = (vec![0.0; rank * row], vec![0.0; rank * rank]);
    linear.product_columns(rank, a, &mut products);
    dots([rank, rank, inputs], Left::rows(a, inputs), a, Target { data: &mut gram, row: rank });
    let squares = linear.row_squares()[columns.clone()].iter();
    let scale = f64::from(slot.scale);
    let length = |(output, (square, b)): (usize, (&f64, &[f32]))| {
        let (mut mixed, mut own) = (0.0, 0.0);
        for (i, &x) in b.iter().enumerate() {
            mixed += f64::from(x) * f64::from(products[i * row + columns.start + output]);
            let products = b.iter().zip(&gram[i * rank..]).map(|(&y, &gram)| f64::from(y) * f64::from(gram));
            own += f64::from(x) * products.sum::<f64>();
        }
        (square + 2.0 * scale * mixed + scale * scale * own).max(0.0).sqrt() as f32
    };
    squares.zip(b.chunks_exact(rank)).enumerate().map(length).collect()
}

impl CpuEngine {
    /// Lets a fresh adapter begin from the weights as they are held, quantised or in few bits: its magnitudes become the
    /// lengths of the rows of W + scale·B·A, so that it changes no length yet. As PEFT does it, whose bases are quantised
    /// before.
    ///
    /// # Errors
    /// An adapter for another model.
    pub fn begin_magnitudes(&self, lora: &mut Lora) -> Result<()> {
        check_adapter(&self.config, lora)?;
        let mut begun = Vec::new();
        for slot in &lora.slots {
            let Some(magnitude) = &slot.magnitude else { continue };
            let linear = self.weights.layers[slot.layer].linear(slot.module);
            let (_, columns) = self.shape.output(slot.module);
            let lengths = self.pool.install(|| lengths(lora, slot, linear, columns));
            begun.push((magnitude.clone(), lengths));
        }
        begun.into_iter().for_each(|(place, lengths)| lora.values[place].copy_from_slice(&lengths));
        Ok(())
    }
}

impl Adapter<'_> {
    /// The linear layer that a slot stands beside, the others of the same input side by side with it.
    fn linear(&self, slot: &LoraSlot) -> &Linear {
        self.weights.layers[slot.layer].linear(slot.module)
    }

    /// Stretches the outputs of a slot's module in the row buffer `y`; `x` is the module's input, of which a part may be
    /// dropped.
    pub(super) fn stretch(&self, (index, slot): (usize, &LoraSlot), x: &[f32], y: &mut [f32]) {
        let Some(stretch) = &self.stretches[index] else { return };
        let (row, columns) = self.shape.output(slot.module);
        if self.drops() {
            let m = x.len() / slot.inputs;
            with_scratch([m * row], |[product]| {
                self.linear(slot).product(m, x, product);
                stretch.add_excess(&product[columns.start..], &mut y[columns.start..], row);
            });
        } else {
            stretch.apply(&mut y[columns.start..], row);
        }
    }

    /// dx = dy·W for the gradient `dy` by the row buffer that `modules` write, without the adapters' own part.
    pub fn input_gradient(
        &self,
        (block, linear): (&Block, &Linear),
        modules: &[Module],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let m = block.rows.len();
        let stretched = |&module: &Module| {
            let (index, slot) = self.find(block.layer, module)?;
            Some((self.shape.output(slot.module), self.stretches[index].as_ref()?))
        };
        if self.drops() || !modules.iter().any(|module| stretched(module).is_some()) {
            return linear.backward(m, dy, dx);
        }
        with_scratch([dy.len()], |[scaled]| {
            scaled.copy_from_slice(dy);
            for ((row, columns), stretch) in modules.iter().filter_map(stretched) {
                for dy in scaled[columns.start..].chunks_mut(row) {
                    dy.iter_mut().zip(&stretch.gains).for_each(|(dy, gain)| *dy *= gain);
                }
            }
            linear.backward(m, scaled, dx);
        });
    }

    /// Calls `work` with x·Wᵀ of the layer of `modules`, if nothing is dropped and a magnitude needs it.
    pub(super) fn with_product(
        &self,
        block: &Block,
        modules: &[Module],
        x: &[f32],
        work: impl FnOnce(&[f32]),
    ) {
        let stretched = |&module: &Module| {
            self.find(block.layer, module).filter(|(index, _)| self.stretches[*index].is_some())
        };
        match modules.iter().find_map(stretched).filter(|_| !self.drops()) {
            None => work(&[]),
            Some((_, slot)) => {
                with_scratch([block.rows.len() * self.shape.output(slot.module).0], |[product]| {
                    self.linear(slot).product(block.rows.len(), x, product);
                    work(product);
                })
            }
        }
    }

    /// The gradient of a slot's magnitudes: Σ dy·(x'·Wᵀ + scale·B·A·x') / norm over the rows. `product` is x·Wᵀ, or
    /// empty where it is to be formed of the dropped input `x`; `d_b` is A·x' times dy, [rank, outputs].
    pub(super) fn magnitude_gradient(
        &self,
        (index, slot): (usize, &LoraSlot),
        (x, product): (&[f32], &[f32]),
        (dy, d_b): (&[f32], &[f32]),
        into: &mut [f32],
    ) {
        let Some(stretch) = &self.stretches[index] else { return };
        let (row, columns) = self.shape.output(slot.module);
        into.fill(0.0);
        let mut add = |product: &[f32]| {
            for (dy, product) in dy.chunks(row).zip(product[columns.start..].chunks(row)) {
                into.iter_mut().zip(dy).zip(product).for_each(|((sum, dy), y)| *sum += dy * y);
            }
        };
        if product.is_empty() {
            let m = x.len() / slot.inputs;
            with_scratch([m * row], |[product]| {
                self.linear(slot).product(m, x, product);
                add(product);
            });
        } else {
            add(product);
        }
        let b = self.lora.values[slot.b.clone()].chunks_exact(slot.rank);
        for (output, (sum, b)) in into.iter_mut().zip(b).enumerate() {
            let d_b = d_b[output..].iter().step_by(slot.outputs);
            let reduced: f32 = b.iter().zip(d_b).map(|(b, d_b)| b * d_b).sum();
            *sum = (*sum + slot.scale * reduced) * stretch.inverse[output];
        }
    }

    /// Where a part of the input is dropped: dx += drop(((g - 1)·dy)·W). `dy` is that of the module's outputs, within
    /// rows of the buffer that it writes.
    pub(super) fn add_excess_gradient(
        &self,
        (index, slot): (usize, &LoraSlot),
        first_row: usize,
        dy: &[f32],
        dx: &mut [f32],
    ) {
        let (Some(stretch), Some(mask)) = (&self.stretches[index], self.mask(index)) else { return };
        let (row, columns) = self.shape.output(slot.module);
        let m = dx.len() / slot.inputs;
        with_scratch([m * row, dx.len()], |[excess, product]| {
            excess.fill(0.0);
            for (excess, dy) in excess.chunks_exact_mut(row).zip(dy.chunks(row)) {
                let values = excess[columns.clone()].iter_mut().zip(dy).zip(&stretch.gains);
                values.for_each(|((excess, dy), gain)| *excess = (gain - 1.0) * dy);
            }
            self.linear(slot).backward(m, excess, product);
            mask.add(product, first_row, slot.inputs, dx);
        });
    }
}
