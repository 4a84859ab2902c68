//! LoRA adapters: their configuration, which modules they stand beside, and all their numbers in one vector.

mod config;
mod files;
mod fresh;
mod initialisation;
mod layout;
mod patterns;
mod principal;
mod start;
mod targets;

use std::ops::Range;
use std::sync::Arc;

use crate::config::DecoderConfig;
use crate::module::Module;
use crate::output_heads::fresh_score;

pub use config::LoraConfig;
pub(crate) use files::adapter_weights;
pub use initialisation::InitLoraWeights;
pub use targets::{OneOrMore, Targets};

/// A LoRA adapter: `y += scale · B (A x)` beside each chosen linear layer, and with DoRA (Liu et al. 2024, equation 5)
/// every row of W + scale · B·A brought to a length of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The configuration, as saved beside the weights.
    pub config: LoraConfig,
    /// Where each adapted module's matrices lie, ordered by layer and module.
    pub slots: Vec<LoraSlot>,
    /// Where an embedding of its own lies, `[vocabulary, hidden]`, behind the slots: it takes the place of the model's.
    pub embedding: Option<Range<usize>>,
    /// Where a head of its own lies, `[vocabulary, hidden]`, behind the embedding: it takes the place of the model's,
    /// which an embedding that is tied to it does not.
    pub head: Option<Range<usize>>,
    /// Where the scalar head's weights lie, `[hidden]`, last of all; none where there is no such head.
    pub score: Option<Range<usize>>,
    /// The model's hidden size: the width of what is trained whole.
    pub hidden_size: usize,
    /// What the slots began as, laid out as they are, where that was taken out of the model's weights (PiSSA): such an
    /// adapter stands beside [`Model::without_start`](crate::Model::without_start), and is saved as [`Lora::difference`].
    pub start: Option<Arc<[f32]>>,
    /// All parameters: for each slot A, B and the magnitudes; then what is trained whole.
    pub values: Vec<f32>,
}

/// What stands beside one linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSlot {
    /// The decoder layer, from 0.
    pub layer: usize,
    /// The linear layer within it.
    pub module: Module,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// What the product is multiplied by: alpha / rank, or alpha / √rank with rsLoRA.
    pub scale: f32,
    /// Where A lies in the values: `[rank, inputs]`, row-major.
    pub a: Range<usize>,
    /// Where B lies in the values: `[outputs, rank]`, row-major.
    pub b: Range<usize>,
    /// Where DoRA's magnitudes lie in the values, `[outputs]`; none of a plain adapter.
    pub magnitude: Option<Range<usize>>,
    /// Inputs of the linear layer.
    pub inputs: usize,
    /// Outputs of the linear layer.
    pub outputs: usize,
}

impl LoraSlot {
    /// All of its values.
    pub fn range(&self) -> Range<usize> {
        self.a.start..self.magnitude.as_ref().map_or(self.b.end, |magnitude| magnitude.end)
    }
}

impl Lora {
    /// The same adapter with a scalar head, a fresh one drawn from N(0, 0.02) unless it has one.
    pub fn with_score(mut self, decoder: &DecoderConfig, seed: u64) -> Self {
        if self.score.is_none() {
            self.config.add_score();
            let start = self.values.len();
            self.values.extend(fresh_score(decoder.hidden_size, seed));
            self.score = Some(start..self.values.len());
        }
        self
    }

    /// The same adapter without the scalar head, for a model that writes.
    pub fn without_score(mut self) -> Self {
        if let Some(score) = self.score.take() {
            self.values.truncate(score.start);
        }
        self.config.drop_score();
        self
    }

    /// Whether it has matrices A and B alone, beside the model's own weights, and perhaps a scalar head.
    pub fn is_plain(&self) -> bool {
        !self.config.use_dora && self.embedding.is_none() && self.head.is_none() && self.start.is_none()
    }

    /// Whether it begins as a part of the model's weights, which is taken out of them.
    pub fn is_pissa(&self) -> bool {
        InitLoraWeights::of(&self.config).is_some_and(|start| start != InitLoraWeights::Drawn)
    }

    /// The values of every B, and of the magnitudes: what LoRA+ trains faster, in order.
    pub fn outer_ranges(&self) -> Vec<Range<usize>> {
        self.slots.iter().map(|slot| slot.b.start..slot.range().end).collect()
    }
}
