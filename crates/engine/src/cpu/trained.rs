//! What a backward pass learns: the gradients of an adapter, or of the weights themselves.

use super::adapter::{Adapter, Backward, Block};
use super::linear::Linear;
use super::shape::Shape;
use collimate_kernels::norm::rms_norm_weight_gradient;
use collimate_model::{Module, WeightLayout};
use std::ops::Range;

/// The parameters in training.
#[derive(Clone, Copy)]
pub(super) enum Trained<'a> {
    Adapter(Adapter<'a>),
    Weights(&'a WeightLayout),
}

impl<'a> Trained<'a> {
    /// The lowest layer that a gradient must reach; none if nothing below the heads is trained.
    pub fn lowest(self) -> Option<usize> {
        match self {
            Self::Adapter(_) if self.embedding().is_some() => Some(0),
            Self::Adapter(adapter) => adapter.lora.slots.first().map(|slot| slot.layer),
            Self::Weights(_) => Some(0),
        }
    }

    /// The adapter, if it is one.
    pub fn adapter(self) -> Option<Adapter<'a>> {
        match self {
            Self::Adapter(adapter) => Some(adapter),
            Self::Weights(_) => None,
        }
    }

    /// Whether any of the modules of a layer is trained.
    pub fn trains(self, layer: usize, modules: &[Module]) -> bool {
        match self {
            Self::Adapter(adapter) => adapter.adapts(layer, modules),
            Self::Weights(_) => true,
        }
    }

    /// Where the scalar head lies in the values, if it is trained.
    pub fn score(self) -> Option<Range<usize>> {
        match self {
            Self::Adapter(adapter) => adapter.lora.score.clone(),
            Self::Weights(layout) => layout.score.clone(),
        }
    }

    /// Where the embedding lies in the values, if it is trained.
    pub fn embedding(self) -> Option<Range<usize>> {
        match self {
            Self::Adapter(adapter) => adapter.lora.embedding.clone(),
            Self::Weights(layout) => Some(layout.embedding.clone()),
        }
    }

    /// Where the head that scores tokens lies in the values, if it is trained.
    pub fn head(self) -> Option<Range<usize>> {
        match self {
            Self::Adapter(adapter) => adapter.lora.head.clone(),
            Self::Weights(layout) => Some(layout.head.clone()),
        }
    }

    /// dx = dy·W of `linear`, which holds `modules`, without an adapter's own part.
    pub fn input_gradient(
        self,
        (block, linear): (&Block, &Linear),
        modules: &[Module],
        dy: &[f32],
        dx: &mut [f32],
    ) {
        match self {
            Self::Adapter(adapter) => adapter.input_gradient((block, linear), modules, dy, dx),
            Self::Weights(_) => linear.backward(block.rows.len(), dy, dx),
        }
    }

    /// Values in a layer's row of an adapter's reduced inputs.
    pub fn reduced_width(self, layer: usize) -> usize {
        match self {
            Self::Adapter(adapter) => adapter.reduced_width(layer),
            Self::Weights(_) => 0,
        }
    }

    /// Values of one block's share of the partial gradients of a layer: those of its adapters, or of norms.
    pub fn partial_len(self, shape: Shape, layer: usize) -> usize {
        match self {
            Self::Adapter(adapter) => adapter.partial_len(layer),
            Self::Weights(_) => shape.norm_share(),
        }
    }

    /// `width` where weights are trained: what their gradients are made of is kept, row by row.
    pub fn kept_width(self, width: usize) -> usize {
        if matches!(self, Self::Weights(_)) { width } else { 0 }
    }

    /// What one block learns into.
    pub fn learn<'b>(self, partial: &'b mut [f32], kept: KeptRows<'b>) -> Learn<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Adapter(adapter) => Learn::Adapter(adapter, partial),
            Self::Weights(_) => {
                partial.fill(0.0);
                Learn::Weights(kept, partial)
            }
        }
    }
}

/// Rows of a block of what the gradients of a layer's weights are made of, beside what is kept anyway. The start of
/// a layer has a normed input alone.
#[derive(Default)]
pub(super) struct KeptRows<'a> {
    pub normed: &'a mut [f32],
    pub d_gate_up: &'a mut [f32],
    pub inner: &'a mut [f32],
    pub d_output: &'a mut [f32],
    pub d_attention_output: &'a mut [f32],
}

/// Where one block leaves what it learns.
pub(super) enum Learn<'a> {
    /// The block's share of the gradients.
    Adapter(Adapter<'a>, &'a mut [f32]),
    /// Inputs and output gradients of the modules, and the block's share of the gradients of norms.
    Weights(KeptRows<'a>, &'a mut [f32]),
}

impl Learn<'_> {
    /// Takes in the modules' input and the gradient by their output; adds an adapter's part to the gradient by the
    /// input.
    pub fn take(&mut self, block: &Block, modules: &[Module], pass: Backward<'_>) {
        match self {
            Self::Adapter(adapter, partial) => adapter.backward(block, modules, pass, partial),
            Self::Weights(kept, _) => match modules {
                [Module::Q, ..] => kept.normed.copy_from_slice(pass.x),
                [Module::Gate, ..] => {
                    kept.normed.copy_from_slice(pass.x);
                    kept.d_gate_up.copy_from_slice(pass.dy);
                }
                [Module::Down] => {
                    kept.inner.copy_from_slice(pass.x);
                    kept.d_output.copy_from_slice(pass.dy);
                }
                // Without a norm behind it, both factors of its gradient stand in the workspace.
                [Module::O] if kept.d_attention_output.is_empty() => {}
                _ => kept.d_attention_output.copy_from_slice(pass.dy),
            },
        }
    }

    /// Takes in the input of a norm and the gradient by its output; `columns` are the norm's in a block's share.
    pub fn take_norm(&mut self, columns: &Range<usize>, (x, dy): (&[f32], &[f32]), epsilon: f32) {
        if let Self::Weights(_, share) = self {
            rms_norm_weight_gradient(x, epsilon, dy, &mut share[columns.clone()]);
        }
    }
}
