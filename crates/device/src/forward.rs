//! The forward pass, layer by layer, and what it leaves for the backward pass.

use crate::adapter::Adapter;
use crate::batch::Packed;
use crate::group::Group;
use crate::ops::attention::{self, Attended, Projected};
use crate::ops::gated::gated;
use crate::ops::head::{self, Scored, Targets};
use crate::ops::linear::product;
use crate::ops::lora::Beside;
use crate::ops::norm::rms_norm;
use crate::ops::rotary::{Turn, rotate};
use crate::weights::{Layer, Weights};
use candle_core::{DType, Result, Tensor};
use collimate_model::DecoderConfig;

/// What a pass needs and does not change.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub config: &'a DecoderConfig,
    pub weights: &'a Weights,
    pub adapter: Option<&'a Adapter>,
    pub batch: &'a Packed,
}

/// What the forward pass of one layer leaves.
#[derive(Debug)]
pub(crate) struct LayerState {
    /// The residual stream below, [rows, hidden].
    pub input: Tensor,
    /// Turned queries, turned keys, and values.
    pub projected: Projected,
    /// Queries and keys before the norms over their heads, where there are such.
    pub unnormed: Option<[Tensor; 2]>,
    pub attended: Attended,
    /// What the output projection gives, where a norm stands on it, [rows, hidden].
    pub attention_output: Option<Tensor>,
    /// The residual stream after attention, [rows, hidden].
    pub middle: Tensor,
    /// [gate | up], [rows, 2 × intermediate].
    pub gate_up: Tensor,
    /// What the MLP gives, where a norm stands on it, [rows, hidden].
    pub mlp_output: Option<Tensor>,
}

/// What the heads say, and what their backward pass needs.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The targets with their hidden states, and what is said of them; where there are any.
    pub targets: Option<(Targets, Scored)>,
    /// The value of each readout, [readouts, 1].
    pub values: Option<Tensor>,
}

impl Pass<'_> {
    pub fn epsilon(&self) -> f64 {
        f64::from(self.config.rms_norm_eps)
    }

    /// x normed by the weight w.
    pub fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        rms_norm(x, weight, self.epsilon())
    }

    /// What stands beside a group of modules.
    pub fn beside(&self, layer: usize, group: Group) -> Result<Vec<Beside>> {
        match self.adapter {
            Some(adapter) => adapter.beside((layer, group), self.batch.rows(), self.config),
            None => Ok(Vec::new()),
        }
    }

    /// The products of a group of modules with their input, adapters and biases added.
    fn linear(&self, layer: usize, group: Group, x: &Tensor) -> Result<Tensor> {
        self.weights.layers[layer].linear(group).forward(x, &self.beside(layer, group)?)
    }

    /// The residual stream below all layers: from an adapter's own embedding, else the model's.
    pub fn embed(&self) -> Result<Tensor> {
        let own = self.adapter.and_then(|adapter| adapter.embedding.as_ref());
        let embedding = own.unwrap_or(&self.weights.ends.embedding);
        let rows = embedding.index_select(&self.batch.tokens, 0)?.to_dtype(DType::F32)?;
        match self.config.embedding_scale {
            Some(scale) => rows.affine(f64::from(scale), 0.0),
            None => Ok(rows),
        }
    }

    /// Runs one layer; the residual stream above it, and what it leaves.
    pub fn layer(&self, index: usize, input: Tensor) -> Result<(Tensor, LayerState)> {
        let layer = &self.weights.layers[index];
        let qkv = self.linear(index, Group::Qkv, &self.norm(&input, &layer.attention_norm)?)?;
        let (projected, unnormed) = self.project(layer, &qkv)?;
        let pieces = self.batch.pieces(layer.window);
        let attended = attention::forward(layer.attention, pieces, &projected)?;

        let product = self.linear(index, Group::Output, &attended.out.flatten_from(1)?)?;
        let (added, attention_output) = self.norm_behind(product, layer.attention_output_norm.as_ref())?;
        let middle = (&input + added)?;
        let gate_up = self.linear(index, Group::GateUp, &self.norm(&middle, &layer.mlp_norm)?)?;
        let inner = gated(self.config.activation, &gate_up)?;
        let product = self.linear(index, Group::Down, &inner)?;
        let (added, mlp_output) = self.norm_behind(product, layer.mlp_output_norm.as_ref())?;
        let output = (&middle + added)?;
        let state = LayerState {
            input,
            projected,
            unnormed,
            attended,
            attention_output,
            middle,
            gate_up,
            mlp_output,
        };
        Ok((output, state))
    }

    /// What a sublayer adds to the stream, and what that was before the norm on it, where there is one.
    fn norm_behind(&self, product: Tensor, norm: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>)> {
        match norm {
            Some(norm) => Ok((self.norm(&product, norm)?, Some(product))),
            None => Ok((product, None)),
        }
    }

    /// Cuts [queries | keys | values] into heads, norms those of queries and keys, and turns them; with what was normed.
    fn project(&self, layer: &Layer, qkv: &Tensor) -> Result<(Projected, Option<[Tensor; 2]>)> {
        let [mut queries, mut keys, values] = self.heads(qkv)?;
        let mut unnormed = None;
        if let Some([by_queries, by_keys]) = &layer.head_norms {
            let normed = [self.norm(&queries, by_queries)?, self.norm(&keys, by_keys)?];
            unnormed = Some([queries, keys]);
            [queries, keys] = normed;
        }
        if let Some(angles) = self.batch.angles.of(layer.rotary) {
            queries = rotate(&queries, angles, Turn::Forward)?;
            keys = rotate(&keys, angles, Turn::Forward)?;
        }
        Ok((Projected { queries, keys, values }, unnormed))
    }

    /// Rows of [queries | keys | values] as [rows, heads, dim] each.
    fn heads(&self, qkv: &Tensor) -> Result<[Tensor; 3]> {
        let DecoderConfig { num_attention_heads, num_key_value_heads, head_dim, .. } = *self.config;
        let part = |first: usize, heads: usize| {
            let columns = qkv.narrow(1, first * head_dim, heads * head_dim)?.contiguous()?;
            columns.reshape(((), heads, head_dim))
        };
        let keys = num_attention_heads;
        let values = keys + num_key_value_heads;
        Ok([part(0, keys)?, part(keys, num_key_value_heads)?, part(values, num_key_value_heads)?])
    }

    /// The head that scores tokens: an adapter's own, else the model's.
    pub fn head_weight(&self) -> &Tensor {
        self.adapter.and_then(|adapter| adapter.head.as_ref()).unwrap_or(&self.weights.ends.head)
    }

    /// The scalar head, [1, hidden]: an adapter's own, else the model's.
    pub fn score_weight(&self) -> Option<&Tensor> {
        self.adapter.and_then(|adapter| adapter.score.as_ref()).or(self.weights.ends.score.as_ref())
    }

    /// Scores targets and readouts, from the residual stream above all layers; with the slopes of log-probs, if they are
    /// wanted.
    pub fn judge(&self, top: &Tensor, slopes: bool) -> Result<Judged> {
        let (norm, sharpness) = (&self.weights.ends.norm, self.batch.sharpness);
        let mut targets = None;
        if let (Some(rows), Some(tokens)) = (&self.batch.target_rows, &self.batch.target_tokens) {
            let hidden = self.norm(&top.index_select(rows, 0)?, norm)?;
            // Logits are divided by the temperature in that the hidden states are, and with them the cap.
            let asked = Targets {
                hidden: hidden.affine(sharpness, 0.0)?,
                tokens: tokens.clone(),
                softcap: self.config.logit_softcap.map(|cap| f64::from(cap) * sharpness),
            };
            let scored = head::score(&asked, self.head_weight(), slopes)?;
            targets = Some((asked, scored));
        }
        let values = match (&self.batch.readout_rows, self.score_weight()) {
            (Some(rows), Some(score)) => {
                Some(product(&self.norm(&top.index_select(rows, 0)?, norm)?, score)?)
            }
            _ => None,
        };
        Ok(Judged { targets, values })
    }
}
