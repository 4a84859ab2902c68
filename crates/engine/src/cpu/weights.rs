//! The weights, packed at load: W for the gradient, its transpose for the forward pass; or the layers' quantised, once
//! for both.

use super::CpuOptions;
use super::forward::{GATE_UP, QKV};
use super::linear::{Linear, Matrix};
use crate::Result;
use collimate_kernels::attention::{Attention, Heads};
use collimate_kernels::gemm::{Frozen, Packed};
use collimate_kernels::head::Head;
use collimate_kernels::quant::{Blocks, FourBit, Nibbles, RowBytes};
use collimate_kernels::{Dtype, Quantisation};
use collimate_model::gguf::StoredBlocks;
use collimate_model::{DecoderConfig, FullWeights, LayerPlaces, Model, Module, Rotary, StoredCodes};
use std::ops::Range;

/// One decoder layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub attention: Attention,
    pub rotary: Rotary,
    pub attention_norm: Vec<f32>,
    /// [query heads | key heads | value heads].
    pub qkv: Linear,
    /// Those over each head of queries and of keys, if there are any.
    pub head_norms: Option<[Vec<f32>; 2]>,
    pub output: Linear,
    /// The norm on what attention gives, if there is one.
    pub attention_output_norm: Option<Vec<f32>>,
    pub mlp_norm: Vec<f32>,
    /// [gate | up].
    pub gate_up: Linear,
    pub down: Linear,
    /// The norm on what the MLP gives, if there is one.
    pub mlp_output_norm: Option<Vec<f32>>,
}

impl Layer {
    /// The linear layer that a module is, or is a part of.
    pub fn linear(&self, module: Module) -> &Linear {
        match module {
            Module::Q | Module::K | Module::V => &self.qkv,
            Module::O => &self.output,
            Module::Gate | Module::Up => &self.gate_up,
            Module::Down => &self.down,
        }
    }

    /// Its norms, in the order of [`norm_places`].
    fn norms(&self) -> impl Iterator<Item = &Vec<f32>> {
        let outputs = self.attention_output_norm.iter().chain(&self.mlp_output_norm);
        [&self.attention_norm, &self.mlp_norm]
            .into_iter()
            .chain(outputs)
            .chain(self.head_norms.iter().flatten())
    }

    /// The same, to be changed.
    fn norms_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        let outputs = self.attention_output_norm.iter_mut().chain(&mut self.mlp_output_norm);
        let first = [&mut self.attention_norm, &mut self.mlp_norm].into_iter();
        first.chain(outputs).chain(self.head_norms.iter_mut().flatten())
    }
}

/// Where a layer's norms lie in the values, in the order of [`Layer::norms`].
fn norm_places(places: &LayerPlaces) -> impl Iterator<Item = &Range<usize>> {
    let outputs = places.attention_output_norm.iter().chain(&places.mlp_output_norm);
    let first = [&places.attention_norm, &places.mlp_norm].into_iter();
    first.chain(outputs).chain(places.head_norms.iter().flatten())
}

/// All weights. Norms are held as what they act as, 1 + w where the model has unit offsets.
#[derive(Debug)]
pub(super) struct Weights {
    pub layers: Vec<Layer>,
    pub norm: Vec<f32>,
    pub head: Head,
    /// The transposed embedding, [hidden, vocabulary]; none when it is the head's matrix.
    embedding: Option<Packed>,
    /// The scalar head, [hidden], in f32; none where there is no such head.
    pub score: Option<Vec<f32>>,
    unit_offset_norms: bool,
}

impl Weights {
    /// Reads and packs every weight; `progress` hears of each finished layer.
    pub fn load(model: &Model, options: CpuOptions, mut progress: impl FnMut(usize)) -> Result<Self> {
        let config = model.config();
        let training = options.training;
        let mut loader = Loader { model, options, buffer: Vec::new(), part: Vec::new() };
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
        let (norm, unit_offset_norms) = (loader.norm("model.norm.weight")?, config.unit_offset_norms);
        Ok(Self { layers, norm, head, embedding, score, unit_offset_norms })
    }

    /// Bytes that the matrices of the layers take.
    pub fn linear_bytes(&self) -> u64 {
        let of = |layer: &Layer| {
            let linear = [&layer.qkv, &layer.output, &layer.gate_up, &layer.down];
            linear.map(Linear::bytes).iter().sum::<u64>()
        };
        self.layers.iter().map(of).sum()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let embedding = self.embedding.as_ref().map_or(0, Packed::bytes);
        let backward = self.head.backward.as_ref().map_or(0, Packed::bytes);
        let outer = self.head.forward.bytes() + backward + embedding;
        let norms = |layer: &Layer| layer.norms().map(|norm| size_of_val(&**norm)).sum::<usize>();
        let norms: usize = self.layers.iter().map(norms).sum();
        let score = self.score.as_ref().map_or(0, |score| size_of_val(&**score));
        (outer + size_of_val(&*self.norm) + score + norms) as u64 + self.linear_bytes()
    }

    /// Takes over other weights of the same model, without new memory.
    pub fn refresh(&mut self, weights: &FullWeights) {
        let (layout, values) = (&weights.layout, weights.values.as_slice());
        for (layer, places) in self.layers.iter_mut().zip(&layout.layers) {
            for (norm, place) in layer.norms_mut().zip(norm_places(places)) {
                take_norm(norm, &values[place.clone()], self.unit_offset_norms);
            }
            layer.qkv.refresh(&places.qkv, values);
            layer.output.refresh(&places.output, values);
            layer.gate_up.refresh(&places.gate_up, values);
            layer.down.refresh(&places.down, values);
        }
        take_norm(&mut self.norm, &values[layout.norm.clone()], self.unit_offset_norms);
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

/// Copies a norm's weight.
fn take_norm(norm: &mut [f32], weight: &[f32], unit_offset: bool) {
    norm.copy_from_slice(weight);
    offset_norm(norm, unit_offset);
}

/// Turns a norm's weight into what it acts as.
fn offset_norm(norm: &mut [f32], unit_offset: bool) {
    if unit_offset {
        norm.iter_mut().for_each(|w| *w += 1.0);
    }
}

/// How a layer attends.
fn attention(config: &DecoderConfig, index: usize) -> Attention {
    let heads = Heads {
        query: config.num_attention_heads,
        key_value: config.num_key_value_heads,
        dim: config.head_dim,
    };
    let plain = Attention::new(heads);
    Attention {
        scale: config.attention_scale.unwrap_or(plain.scale),
        softcap: config.attention_softcap,
        window: config.layer_attention[index].window,
        ..plain
    }
}

/// Reads weights into buffers that are reused.
struct Loader<'a> {
    model: &'a Model,
    options: CpuOptions,
    buffer: Vec<f32>,
    part: Vec<f32>,
}

impl Loader<'_> {
    fn layer(&mut self, index: usize) -> Result<Layer> {
        let config = self.model.config();
        let names = config.sublayer_norms.names();
        let head_norms = config.qk_norm.then_some(["self_attn.q_norm", "self_attn.k_norm"]);
        Ok(Layer {
            attention: attention(config, index),
            rotary: config.layer_attention[index].rotary,
            attention_norm: self.layer_norm(index, names.attention)?,
            qkv: self.linear(index, &QKV)?,
            head_norms: match head_norms {
                Some([q, k]) => Some([self.layer_norm(index, q)?, self.layer_norm(index, k)?]),
                None => None,
            },
            output: self.linear(index, &[Module::O])?,
            attention_output_norm: self.output_norm(index, names.attention_output)?,
            mlp_norm: self.layer_norm(index, names.mlp)?,
            gate_up: self.linear(index, &GATE_UP)?,
            down: self.linear(index, &[Module::Down])?,
            mlp_output_norm: self.output_norm(index, names.mlp_output)?,
        })
    }

    fn output_norm(&self, index: usize, name: Option<&str>) -> Result<Option<Vec<f32>>> {
        name.map(|name| self.layer_norm(index, name)).transpose()
    }

    fn layer_norm(&self, index: usize, name: &str) -> Result<Vec<f32>> {
        self.norm(&format!("model.layers.{index}.{name}.weight"))
    }

    fn norm(&self, name: &str) -> Result<Vec<f32>> {
        let mut norm = self.vector(name)?;
        offset_norm(&mut norm, self.model.config().unit_offset_norms);
        Ok(norm)
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
        if let Some(matrix) = self.frozen(&names, modules)? {
            return Ok(Linear::new(matrix, bias));
        }
        let (forward, backward) = self.pack(&names, [inputs, outputs], self.options.training)?;
        Ok(Linear::new(Matrix::Packed(forward, backward), bias))
    }

    /// The matrices quantised, if they are to be, each by itself; none where a file that is to be taken as it is stores
    /// one of them without blocks.
    fn frozen(&mut self, names: &[String], modules: &[Module]) -> Result<Option<Matrix>> {
        let CpuOptions { dtype, quantise, double_quant, .. } = self.options;
        let mut parts = Vec::with_capacity(names.len());
        for (name, module) in names.iter().zip(modules) {
            let (inputs, outputs) = module.dimensions(self.model.config());
            let kind = match quantise {
                Quantisation::None => return Ok(None),
                Quantisation::Gguf => {
                    let Some(stored) = self.model.blocks(name)? else { return Ok(None) };
                    let part = Frozen::from_blocks(Blocks::from(&stored), inputs, dtype);
                    parts.push(part.map_err(collimate_model::Error::from)?);
                    continue;
                }
                Quantisation::Int8 => None,
                Quantisation::Nf4 => Some(FourBit::Nf4),
                Quantisation::Fp4 => Some(FourBit::Fp4),
            };
            parts.push(match (kind, self.model.codes(name)?) {
                (Some(kind), Some(StoredCodes::Nibbles(nibbles))) if nibbles.kind == kind => {
                    Frozen::from_nibbles(nibbles, [outputs, inputs], dtype)
                }
                (None, Some(StoredCodes::Rows(rows))) => Frozen::from_rows(rows, [outputs, inputs], dtype),
                (Some(kind), _) => {
                    self.model.read(name, &mut self.buffer)?;
                    let nibbles = Nibbles::quantise(kind, &self.buffer);
                    let nibbles = if double_quant { nibbles.nested() } else { nibbles };
                    Frozen::from_nibbles(nibbles, [outputs, inputs], dtype)
                }
                (None, _) => {
                    self.model.read(name, &mut self.buffer)?;
                    let rows = RowBytes::quantise(&self.buffer, inputs);
                    Frozen::from_rows(rows, [outputs, inputs], dtype)
                }
            });
        }
        Ok(Some(Matrix::Frozen(parts)))
    }

    /// Matrices one below the other: the transpose packed for the forward pass, and for a `backward` pass what they are.
    fn pack(
        &mut self,
        names: &[String],
        [inputs, outputs]: [usize; 2],
        backward: bool,
    ) -> Result<(Packed, Option<Packed>)> {
        let dtype = self.options.dtype;
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
        if self.options.dtype != Dtype::Gguf {
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
