//! The adapter beside the frozen layers: y += scale · B·(A·drop(x)), and the gradients of A, B and x.
//!
//! Everything is done on blocks of rows; the gradients of blocks are added up in the order of blocks.

use super::shape::Shape;
use crate::Dropout;
use collimate_kernels::dropout::Mask;
use collimate_kernels::gemm::{Into, Left, Target, dots, multiply};
use collimate_kernels::parallel::with_scratch;
use collimate_model::{Lora, LoraSlot, Module};
use std::ops::Range;

/// An adapter as one pass uses it.
#[derive(Clone, Copy)]
pub(super) struct Adapter<'a> {
    pub lora: &'a Lora,
    /// For each slot scale · Bᵀ, [rank, outputs], where its B stands in the values.
    turned: &'a [f32],
    /// First column of each slot in its layer's row of reduced inputs A·drop(x).
    columns: &'a [usize],
    dropout: Option<Dropout>,
    shape: Shape,
}

/// What an adapter needs beside its values, kept from pass to pass.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    turned: Vec<f32>,
    columns: Vec<usize>,
}

impl Prepared {
    /// Turns every B, which changes with each step of the optimiser.
    pub fn prepare<'a>(&'a mut self, lora: &'a Lora, dropout: Option<Dropout>, shape: Shape) -> Adapter<'a> {
        self.turned.resize(lora.values.len(), 0.0);
        self.columns.clear();
        let (mut layer, mut column) = (0, 0);
        for slot in &lora.slots {
            if slot.layer != layer {
                (layer, column) = (slot.layer, 0);
            }
            let (b, turned) = (&lora.values[slot.b.clone()], &mut self.turned[slot.b.clone()]);
            for (output, row) in b.chunks_exact(slot.rank).enumerate() {
                for (r, value) in row.iter().enumerate() {
                    turned[r * slot.outputs + output] = value * slot.scale;
                }
            }
            self.columns.push(column);
            column += slot.rank;
        }
        self.again(lora, dropout, shape)
    }

    /// The adapter as it was last prepared.
    pub fn again<'a>(&'a self, lora: &'a Lora, dropout: Option<Dropout>, shape: Shape) -> Adapter<'a> {
        Adapter { lora, turned: &self.turned, columns: &self.columns, dropout, shape }
    }
}

/// Rows of a layer that one task works on.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub layer: usize,
    pub rows: Range<usize>,
}

impl<'a> Adapter<'a> {
    /// The slots of a layer, with their indices.
    pub fn layer(&self, layer: usize) -> Range<usize> {
        let slots = &self.lora.slots;
        slots.partition_point(|slot| slot.layer < layer)..slots.partition_point(|slot| slot.layer <= layer)
    }

    /// Values in a layer's row of reduced inputs: the ranks of its slots.
    pub fn reduced_width(&self, layer: usize) -> usize {
        self.lora.slots[self.layer(layer)].iter().map(|slot| slot.rank).sum()
    }

    /// The scalar head's weights, [hidden], if the adapter has one.
    pub fn score(&self) -> Option<&'a [f32]> {
        self.lora.score.as_ref().map(|place| &self.lora.values[place.clone()])
    }

    /// The slot beside a module, if it has one.
    fn find(&self, layer: usize, module: Module) -> Option<(usize, &'a LoraSlot)> {
        self.layer(layer).map(|i| (i, &self.lora.slots[i])).find(|(_, slot)| slot.module == module)
    }

    /// Whether any of the modules of a layer is adapted.
    pub fn adapts(&self, layer: usize, modules: &[Module]) -> bool {
        modules.iter().any(|&module| self.find(layer, module).is_some())
    }

    /// Adds the adapters of `modules`, which share the input `x` [rows, inputs], to the row buffer `y`. `reduced`
    /// holds the block's rows of reduced inputs, which the backward pass reads.
    pub fn forward(&self, block: &Block, modules: &[Module], x: &[f32], y: &mut [f32], reduced: &mut [f32]) {
        let m = block.rows.len();
        let width = self.reduced_width(block.layer);
        for &module in modules {
            let Some((index, slot)) = self.find(block.layer, module) else { continue };
            let (row, columns) = self.shape.output(module);
            let part = &mut reduced[self.columns[index]..];
            self.with_input(index, slot, block, x, |x| {
                let target = Target { data: part, row: width };
                dots([m, slot.rank, slot.inputs], Left::rows(x, slot.inputs), self.a(slot), target);
            });
            let target = Target { data: &mut y[columns.start..], row };
            let turned = (&self.turned[slot.b.clone()], slot.outputs);
            multiply([m, slot.outputs, slot.rank], Left::rows(part, width), turned, target, Into::Add);
        }
    }

    /// The gradients of `modules`, from the gradient `dy` by their row buffer: those of A and B into `partial`, this
    /// block's share of the partial gradients, that of the input, if wanted, added to `dx`.
    pub fn backward(&self, block: &Block, modules: &[Module], pass: Backward<'_>, partial: &mut [f32]) {
        let Backward { x, dy, reduced, mut dx } = pass;
        let m = block.rows.len();
        let width = self.reduced_width(block.layer);
        for &module in modules {
            let Some((index, slot)) = self.find(block.layer, module) else { continue };
            let (row, columns) = self.shape.output(module);
            let dy = &dy[columns.start..];
            let (rank, inputs, outputs) = (slot.rank, slot.inputs, slot.outputs);
            let (d_a, d_b) = self.partial(partial, slot);
            with_scratch([m * rank], |[d_reduced]| {
                let turned = &self.turned[slot.b.clone()];
                let target = Target { data: &mut *d_reduced, row: rank };
                dots([m, rank, outputs], Left::rows(dy, row), turned, target);
                let left = Left::transposed(&reduced[self.columns[index]..], width);
                multiply(
                    [rank, outputs, m],
                    left,
                    (dy, row),
                    Target { data: d_b, row: outputs },
                    Into::Replace,
                );
                self.with_input(index, slot, block, x, |x| {
                    let (left, target) =
                        (Left::transposed(d_reduced, rank), Target { data: d_a, row: inputs });
                    multiply([rank, inputs, m], left, (x, inputs), target, Into::Replace);
                });
                if let Some(dx) = dx.as_deref_mut() {
                    self.add_input_gradient((index, slot), block, d_reduced, dx);
                }
            });
        }
    }

    /// dx += drop(d_reduced · A).
    fn add_input_gradient(
        &self,
        (index, slot): (usize, &LoraSlot),
        block: &Block,
        d_reduced: &[f32],
        dx: &mut [f32],
    ) {
        let size = [block.rows.len(), slot.inputs, slot.rank];
        let (left, a) = (Left::rows(d_reduced, slot.rank), (self.a(slot), slot.inputs));
        match self.mask(index) {
            None => multiply(size, left, a, Target { data: dx, row: slot.inputs }, Into::Add),
            Some(mask) => with_scratch([size[0] * slot.inputs], |[product]| {
                multiply(size, left, a, Target { data: &mut *product, row: slot.inputs }, Into::Replace);
                mask.add(product, block.rows.start, slot.inputs, dx);
            }),
        }
    }

    /// Calls `work` with drop(x).
    fn with_input(&self, index: usize, slot: &LoraSlot, block: &Block, x: &[f32], work: impl FnOnce(&[f32])) {
        match self.mask(index) {
            None => work(x),
            Some(mask) => with_scratch([block.rows.len() * slot.inputs], |[dropped]| {
                mask.apply(x, block.rows.start, slot.inputs, dropped);
                work(dropped);
            }),
        }
    }

    fn mask(&self, index: usize) -> Option<Mask> {
        let dropout = self.dropout.filter(|dropout| dropout.probability > 0.0)?;
        let slot = &self.lora.slots[index];
        let place = (slot.layer as u64) << 8 | slot.module as u64;
        Some(Mask::new(dropout.probability, dropout.seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    fn a(&self, slot: &LoraSlot) -> &'a [f32] {
        &self.lora.values[slot.a.clone()]
    }

    /// Values of one block's share of the partial gradients of a layer.
    pub fn partial_len(&self, layer: usize) -> usize {
        self.lora.slots[self.layer(layer)].iter().map(|slot| slot.a.len() + slot.b.len()).sum()
    }

    /// A's and scale⁻¹ · Bᵀ's gradient in a block's share.
    fn partial<'p>(&self, partial: &'p mut [f32], slot: &LoraSlot) -> (&'p mut [f32], &'p mut [f32]) {
        let first = self.lora.slots[self.layer(slot.layer).start].a.start;
        partial[slot.a.start - first..slot.b.end - first].split_at_mut(slot.a.len())
    }

    /// Adds the shares of all blocks, in their order, to the gradient of the layer's parameters.
    pub fn reduce(&self, layer: usize, partials: &mut [f32], into: &mut [f32]) {
        let len = self.partial_len(layer);
        if len == 0 {
            return;
        }
        for partial in partials.chunks_exact_mut(len) {
            for index in self.layer(layer) {
                let slot = &self.lora.slots[index];
                let (d_a, d_b) = self.partial(partial, slot);
                into[slot.a.clone()].iter_mut().zip(d_a).for_each(|(sum, part)| *sum += *part);
                for (output, row) in into[slot.b.clone()].chunks_exact_mut(slot.rank).enumerate() {
                    for (r, sum) in row.iter_mut().enumerate() {
                        *sum += d_b[r * slot.outputs + output] * slot.scale;
                    }
                }
            }
        }
    }
}

/// What a backward step of some modules reads and writes, for one block of rows.
pub(super) struct Backward<'a> {
    /// The modules' common input.
    pub x: &'a [f32],
    /// Gradient by the row buffer that they write.
    pub dy: &'a [f32],
    /// Reduced inputs kept from the forward pass.
    pub reduced: &'a [f32],
    /// Gradient by the input, to be added to.
    pub dx: Option<&'a mut [f32]>,
}
