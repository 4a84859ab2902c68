//! The weights, packed at load: W for the gradient, its transpose for the forward pass.

use super::CpuOptions;
use crate::Result;
use collimate_kernels::Dtype;
use collimate_kernels::gemm::{Into, Packed};
use collimate_kernels::head::Head;
use collimate_kernels::quant::Blocks;
use collimate_model::gguf::StoredBlocks;
use collimate_model::{FullWeights, LinearPlace, Model, Module};

/// A linear layer y = x·Wᵀ + b, or several with the same input side by side.
#[derive(Debug)]
pub(super) struct Linear {
    forward: Packed,
    backward: Option<Packed>,
    bias: Vec<f32>,
}

impl Linear {
    /// y = x·Wᵀ + b for `m` rows.
    pub fn forward(&self, m: usize, x: &[f32], y: &mut [f32]) {
        self.forward.apply(m, x, y, Into::Replace);
        self.add_bias(y);
    }

    /// [`Linear::forward`] for a few rows, the columns shared out to the threads.
    pub fn forward_columns(&self, m: usize, x: &[f32], y: &mut [f32]) {
        self.forward.apply_columns(m, x, y, Into::Replace);
        self.add_bias(y);
    }

    /// dx = dy·W.
    pub fn backward(&self, m: usize, dy: &[f32], dx: &mut [f32]) {
        if let Some(backward) = &self.backward {
            backward.apply(m, dy, dx, Into::Replace);
        }
    }

    fn bytes(&self) -> u64 {
        let backward = self.backward.as_ref().map_or(0, Packed::bytes);
        (self.forward.bytes() + backward + size_of_val(&*self.bias)) as u64
    }

    /// Takes over other weights of the same shape.
    fn refresh(&mut self, place: &LinearPlace, values: &[f32]) {
        let weight = &values[place.weight.clone()];
        self.forward.refill_transposed(weight);
        if let Some(backward) = &mut self.backward {
            backward.refill(weight);
        }
        self.bias.copy_from_slice(&values[place.bias.clone()]);
    }

    fn add_bias(&self, y: &mut [f32]) {
        if !self.bias.is_empty() {
            for row in y.chunks_exact_mut(self.bias.len()) {
                row.iter_mut().zip(&self.bias).for_each(|(y, b)| *y += b);
            }
        }
    }
}

/// One decoder layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub attention_norm: Vec<f32>,
    /// [query heads | key heads | value heads].
    pub qkv: Linear,
    pub output: Linear,
    pub mlp_norm: Vec<f32>,
    /// [gate | up].
    pub gate_up: Linear,
    pub down: Linear,
}

/// All weights.
#[derive(Debug)]
pub(super) struct Weights {
    pub layers: Vec<Layer>,
    pub norm: Vec<f32>,
    pub head: Head,
    /// The transposed embedding, [hidden, vocabulary]; none when it is the head's matrix.
    embedding: Option<Packed>,
    /// The scalar head, [hidden], in f32; none where there is no such head.
    pub score: Option<Vec<f32>>,
}

impl Weights {
    /// Reads and packs every weight; `progress` hears of each finished layer.
    pub fn load(model: &Model, options: CpuOptions, mut progress: impl FnMut(usize)) -> Result<Self> {
        let config = model.config();
        let CpuOptions { dtype, training, .. } = options;
        let mut loader = Loader { model, dtype, training, buffer: Vec::new(), part: Vec::new() };
        let size = [config.hidden_size, config.vocab_size];
        let name = "model.embed_tokens.weight".to_owned();
        let (head, embedding) = if config.has_lm_head() {
            ("lm_head.weight".to_owned(), Some(loader.pack(&[name], size, false)?.0))
        } else {
            (name, None)
        };
        let (forward, backward) = loader.pack(&[head], size, training)?;
        let head = Head { forward, backward };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            layers.push(loader.layer(index)?);
            progress(index + 1);
        }
        let score = config.output_heads.score();
        let score = score.then(|| loader.vector("score.weight")).transpose()?;
        Ok(Self { layers, norm: loader.vector("model.norm.weight")?, head, embedding, score })
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let embedding = self.embedding.as_ref().map_or(0, Packed::bytes);
        let backward = self.head.backward.as_ref().map_or(0, Packed::bytes);
        let outer = self.head.forward.bytes() + backward + embedding;
        let layer = |layer: &Layer| {
            let norms = size_of_val(&*layer.attention_norm) + size_of_val(&*layer.mlp_norm);
            let linear = [&layer.qkv, &layer.output, &layer.gate_up, &layer.down];
            norms as u64 + linear.map(Linear::bytes).iter().sum::<u64>()
        };
        let score = self.score.as_ref().map_or(0, |score| size_of_val(&**score));
        (outer + size_of_val(&*self.norm) + score) as u64 + self.layers.iter().map(layer).sum::<u64>()
    }

    /// Takes over other weights of the same model, without new memory.
    pub fn refresh(&mut self, weights: &FullWeights) {
        let (layout, values) = (&weights.layout, weights.values.as_slice());
        for (layer, places) in self.layers.iter_mut().zip(&layout.layers) {
            layer.attention_norm.copy_from_slice(&values[places.attention_norm.clone()]);
            layer.qkv.refresh(&places.qkv, values);
            layer.output.refresh(&places.output, values);
            layer.mlp_norm.copy_from_slice(&values[places.mlp_norm.clone()]);
            layer.gate_up.refresh(&places.gate_up, values);
            layer.down.refresh(&places.down, values);
        }
        self.norm.copy_from_slice(&values[layout.norm.clone()]);
        if let (Some(score), Some(place)) = (&mut self.score, &layout.score) {
            score.copy_from_slice(&values[place.clone()]);
        }
        let head = &values[layout.head.clone()];
        self.head.forward.refill_transposed(head);
        if let Some(backward) = &mut self.head.backward {
            backward.refill(head);
        }
        if let Some(embedding) = &mut self.embedding {
            embedding.refill_transposed(&values[layout.embedding.clone()]);
        }
    }

    /// Copies the embedding of `token` into `out`.
    pub fn embed(&self, token: u32, out: &mut [f32]) {
        self.embedding.as_ref().unwrap_or(&self.head.forward).read_column(token as usize, out);
    }
}

/// Reads weights into buffers that are reused.
struct Loader<'a> {
    model: &'a Model,
    dtype: Dtype,
    training: bool,
    buffer: Vec<f32>,
    part: Vec<f32>,
}

impl Loader<'_> {
    fn layer(&mut self, index: usize) -> Result<Layer> {
        let norm = |name: &str| format!("model.layers.{index}.{name}.weight");
        Ok(Layer {
            attention_norm: self.vector(&norm("input_layernorm"))?,
            qkv: self.linear(index, &[Module::Q, Module::K, Module::V])?,
            output: self.linear(index, &[Module::O])?,
            mlp_norm: self.vector(&norm("post_attention_layernorm"))?,
            gate_up: self.linear(index, &[Module::Gate, Module::Up])?,
            down: self.linear(index, &[Module::Down])?,
        })
    }

    /// Modules with one input, their outputs side by side.
    fn linear(&mut self, layer: usize, modules: &[Module]) -> Result<Linear> {
        let config = self.model.config();
        let inputs = modules[0].dimensions(config).0;
        let outputs: usize = modules.iter().map(|module| module.dimensions(config).1).sum();
        let mut bias = Vec::new();
        for module in modules.iter().filter(|module| module.has_bias(config)) {
            bias.extend(self.vector(&format!("{}.bias", module.path(layer)))?);
        }
        let names: Vec<_> = modules.iter().map(|module| format!("{}.weight", module.path(layer))).collect();
        let (forward, backward) = self.pack(&names, [inputs, outputs], self.training)?;
        Ok(Linear { forward, backward, bias })
    }

    /// Matrices one below the other: the transpose packed for the forward pass, and for a `backward` pass what they are.
    fn pack(
        &mut self,
        names: &[String],
        [inputs, outputs]: [usize; 2],
        backward: bool,
    ) -> Result<(Packed, Option<Packed>)> {
        let dtype = self.dtype;
        if let Some(stored) = self.blocks(names)? {
            let blocks: Vec<Blocks<'_>> = stored.iter().map(Blocks::from).collect();
            let packed = Packed::from_blocks(&blocks, inputs).map_err(collimate_model::Error::from)?;
            return Ok((packed, None));
        }
        let weight = self.matrix(names)?;
        let packed = Packed::transposed(weight, inputs, outputs, dtype);
        Ok((packed, backward.then(|| Packed::new(weight, outputs, inputs, dtype))))
    }

    /// The blocks of matrices, if they are to be multiplied as they are and all of them are stored so.
    fn blocks(&self, names: &[String]) -> Result<Option<Vec<StoredBlocks>>> {
        if self.dtype != Dtype::Gguf {
            return Ok(None);
        }
        Ok(names.iter().map(|name| self.model.blocks(name)).collect::<Result<_, _>>()?)
    }

    /// Matrices one below the other, in the buffer.
    fn matrix(&mut self, names: &[String]) -> Result<&[f32]> {
        let [first, others @ ..] = names else { return Ok(&[]) };
        self.model.read(first, &mut self.buffer)?;
        for name in others {
            self.model.read(name, &mut self.part)?;
            self.buffer.extend_from_slice(&self.part);
        }
        Ok(&self.buffer)
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.model.read(name, &mut values)?;
        Ok(values)
    }
}
