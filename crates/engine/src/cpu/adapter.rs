//! The adapter beside the frozen layers: y += scale · B·(A·drop(x)), and the gradients of A, B and x. What DoRA makes of
//! it is in `dora.rs`.
//!
//! Everything is done on blocks of rows; the gradients of blocks are added up in the order of blocks.

use super::dora::Stretch;
use super::shape::Shape;
use super::weights::Weights;
use crate::Dropout;
use collimate_kernels::Dtype;
use collimate_kernels::dropout::Mask;
use collimate_kernels::gemm::{Into, Left, Packed, Target, dots, multiply};
use collimate_kernels::head::Head;
use collimate_kernels::parallel::with_scratch;
use collimate_model::{Lora, LoraSlot, Module};
use std::ops::Range;

/// An adapter as one pass uses it.
#[derive(Clone, Copy)]
pub(super) struct Adapter<'a> {
    pub lora: &'a Lora,
    /// For each slot scale · Bᵀ, [rank, outputs], where its B stands in the values; with DoRA times the gains.
    turned: &'a [f32],
    /// First column of each slot in its layer's row of reduced inputs A·drop(x).
    columns: &'a [usize],
    /// What DoRA does to the outputs of each slot.
    pub(super) stretches: &'a [Option<Stretch>],
    /// The head in the place of the model's, if the adapter has one.
    pub head: Option<&'a Head>,
    dropout: Option<Dropout>,
    pub(super) shape: Shape,
    pub(super) weights: &'a Weights,
}

/// What an adapter needs beside its values, kept from pass to pass.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    turned: Vec<f32>,
    columns: Vec<usize>,
    stretches: Vec<Option<Stretch>>,
    /// The head of the adapter's own.
    pub head: Option<Head>,
    passes: Passes,
}

/// Which passes a head of the adapter's own is packed for.
#[derive(Debug, Default, PartialEq, Eq)]
enum Passes {
    /// Those that the model's is packed for.
    #[default]
    AsTheModel,
    /// The forward pass alone.
    Forward,
}

impl Prepared {
    /// What decoding needs, which never goes back.
    pub fn for_decoding() -> Self {
        Self { passes: Passes::Forward, ..Self::default() }
    }

    /// Turns every B, packs a head of the adapter's own, and finds DoRA's norms: all changes with each step of the
    /// optimiser.
    pub fn prepare<'a>(
        &'a mut self,
        lora: &'a Lora,
        dropout: Option<Dropout>,
        (shape, weights): (Shape, &'a Weights),
    ) -> Adapter<'a> {
        self.turned.resize(lora.slots.last().map_or(0, |slot| slot.range().end), 0.0);
        self.columns.clear();
        self.stretches.clear();
        let (mut layer, mut column) = (0, 0);
        for slot in &lora.slots {
            if slot.layer != layer {
                (layer, column) = (slot.layer, 0);
            }
            let linear = weights.layers[slot.layer].linear(slot.module);
            let stretch = Stretch::new(lora, slot, linear, shape.output(slot.module).1);
            let (b, turned) = (&lora.values[slot.b.clone()], &mut self.turned[slot.b.clone()]);
            for (output, row) in b.chunks_exact(slot.rank).enumerate() {
                let scale = slot.scale * stretch.as_ref().map_or(1.0, |stretch| stretch.gains[output]);
                for (r, value) in row.iter().enumerate() {
                    turned[r * slot.outputs + output] = value * scale;
                }
            }
            self.stretches.push(stretch);
            self.columns.push(column);
            column += slot.rank;
        }
        self.prepare_head(lora, weights);
        self.again(lora, dropout, (shape, weights))
    }

    fn prepare_head(&mut self, lora: &Lora, weights: &Weights) {
        let Some(place) = &lora.head else {
            self.head = None;
            return;
        };
        let (weight, size) = (&lora.values[place.clone()], weights.head.forward.rows());
        let vocabulary = weights.head.forward.columns();
        match &mut self.head {
            Some(head) => {
                head.forward.refill_transposed(weight);
                head.backward.iter_mut().for_each(|backward| backward.refill(weight));
            }
            None => {
                let backward = self.passes == Passes::AsTheModel && weights.head.backward.is_some();
                self.head = Some(Head {
                    forward: Packed::transposed(weight, size, vocabulary, Dtype::Float32),
                    backward: backward.then(|| Packed::new(weight, vocabulary, size, Dtype::Float32)),
                });
            }
        }
    }

    /// The adapter as it was last prepared.
    pub fn again<'a>(
        &'a self,
        lora: &'a Lora,
        dropout: Option<Dropout>,
        (shape, weights): (Shape, &'a Weights),
    ) -> Adapter<'a> {
        let Self { turned, columns, stretches, head, .. } = self;
        let dropout = dropout.filter(|dropout| dropout.probability > 0.0);
        Adapter { lora, turned, columns, stretches, head: head.as_ref(), dropout, shape, weights }
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

    /// The embedding in the place of the model's, [vocabulary, hidden], if the adapter has one.
    pub fn embedding(&self) -> Option<&'a [f32]> {
        self.lora.embedding.as_ref().map(|place| &self.lora.values[place.clone()])
    }

    /// Whether a part of the inputs is dropped.
    pub(super) fn drops(&self) -> bool {
        self.dropout.is_some()
    }

    /// The slot beside a module, if it has one.
    pub(super) fn find(&self, layer: usize, module: Module) -> Option<(usize, &'a LoraSlot)> {
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
                self.stretch((index, slot), x, y);
            });
            let target = Target { data: &mut y[columns.start..], row };
            let turned = (&self.turned[slot.b.clone()], slot.outputs);
            multiply([m, slot.outputs, slot.rank], Left::rows(part, width), turned, target, Into::Add);
        }
    }

    /// The gradients of `modules`, from the gradient `dy` by their row buffer: those of A, B and the magnitudes into
    /// `partial`, this block's share of the partial gradients, that of the input, if wanted, added to `dx`.
    pub fn backward(&self, block: &Block, modules: &[Module], pass: Backward<'_>, partial: &mut [f32]) {
        let Backward { x, dy, reduced, mut dx } = pass;
        self.with_product(block, modules, x, |product| {
            for &module in modules {
                let Some(slot) = self.find(block.layer, module) else { continue };
                let reduced = &reduced[self.columns[slot.0]..];
                let dy = &dy[self.shape.output(module).1.start..];
                let pass = Backward { x, dy, reduced, dx: dx.as_deref_mut() };
                self.slot_backward(slot, block, (pass, product), partial);
            }
        });
    }

    /// The gradients of one slot; `product` is x·Wᵀ where that is at hand.
    fn slot_backward(
        &self,
        (index, slot): (usize, &LoraSlot),
        block: &Block,
        (pass, product): (Backward<'_>, &[f32]),
        partial: &mut [f32],
    ) {
        let Backward { x, dy, reduced, dx } = pass;
        let (m, row) = (block.rows.len(), self.shape.output(slot.module).0);
        let (rank, inputs, outputs) = (slot.rank, slot.inputs, slot.outputs);
        let [d_a, d_b, d_magnitude] = self.partial(partial, slot);
        with_scratch([m * rank], |[d_reduced]| {
            let turned = &self.turned[slot.b.clone()];
            let target = Target { data: &mut *d_reduced, row: rank };
            dots([m, rank, outputs], Left::rows(dy, row), turned, target);
            let left = Left::transposed(reduced, self.reduced_width(block.layer));
            let target = Target { data: &mut *d_b, row: outputs };
            multiply([rank, outputs, m], left, (dy, row), target, Into::Replace);
            self.with_input(index, slot, block, x, |x| {
                let (left, target) = (Left::transposed(d_reduced, rank), Target { data: d_a, row: inputs });
                multiply([rank, inputs, m], left, (x, inputs), target, Into::Replace);
                self.magnitude_gradient((index, slot), (x, product), (dy, d_b), d_magnitude);
            });
            if let Some(dx) = dx {
                self.add_input_gradient((index, slot), block, d_reduced, dx);
                self.add_excess_gradient((index, slot), block.rows.start, dy, dx);
            }
        });
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

    pub(super) fn mask(&self, index: usize) -> Option<Mask> {
        self.dropout?.mask(&self.lora.slots[index])
    }

    fn a(&self, slot: &LoraSlot) -> &'a [f32] {
        &self.lora.values[slot.a.clone()]
    }

    /// Values of one block's share of the partial gradients of a layer.
    pub fn partial_len(&self, layer: usize) -> usize {
        self.lora.slots[self.layer(layer)].iter().map(|slot| slot.range().len()).sum()
    }

    /// The gradients of A, of scale⁻¹ · Bᵀ (DoRA's gains aside) and of the magnitudes in a block's share.
    fn partial<'p>(&self, partial: &'p mut [f32], slot: &LoraSlot) -> [&'p mut [f32]; 3] {
        let first = self.lora.slots[self.layer(slot.layer).start].a.start;
        let own = slot.range();
        let (d_a, rest) = partial[own.start - first..own.end - first].split_at_mut(slot.a.len());
        let (d_b, d_magnitude) = rest.split_at_mut(slot.b.len());
        [d_a, d_b, d_magnitude]
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
                let [d_a, d_b, d_magnitude] = self.partial(partial, slot);
                into[slot.a.clone()].iter_mut().zip(d_a).for_each(|(sum, part)| *sum += *part);
                let stretch = self.stretches[index].as_ref();
                for (output, row) in into[slot.b.clone()].chunks_exact_mut(slot.rank).enumerate() {
                    let scale = slot.scale * stretch.map_or(1.0, |stretch| stretch.gains[output]);
                    for (r, sum) in row.iter_mut().enumerate() {
                        *sum += d_b[r * slot.outputs + output] * scale;
                    }
                }
                if let Some(magnitude) = &slot.magnitude {
                    let sums = into[magnitude.clone()].iter_mut();
                    sums.zip(d_magnitude).for_each(|(sum, part)| *sum += *part);
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
