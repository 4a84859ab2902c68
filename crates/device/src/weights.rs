//! The weights on the device: matrices in the type that is asked for, norms and biases in f32.

use crate::group::Group;
use crate::ops::attention::Attention;
use crate::ops::linear::Linear;
use crate::options::failed;
use candle_core::{DType, Device, Tensor};
use collimate_engine::Result;
use collimate_model::{
    DecoderConfig, FullWeights, LayerPlaces, LinearPlace, Model, Module, Rotary, WeightLayout,
};
use std::ops::Range;

/// One decoder layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub attention: Attention,
    /// Tokens that a token sees; none is all before it.
    pub window: Option<usize>,
    pub rotary: Rotary,
    pub attention_norm: Tensor,
    qkv: Linear,
    /// Those over each head of queries and of keys, if there are any.
    pub head_norms: Option<[Tensor; 2]>,
    output: Linear,
    /// The norm on what attention gives, if there is one.
    pub attention_output_norm: Option<Tensor>,
    pub mlp_norm: Tensor,
    gate_up: Linear,
    down: Linear,
    /// The norm on what the MLP gives, if there is one.
    pub mlp_output_norm: Option<Tensor>,
}

impl Layer {
    /// The linear layers of a group of modules.
    pub fn linear(&self, group: Group) -> &Linear {
        match group {
            Group::Qkv => &self.qkv,
            Group::Output => &self.output,
            Group::GateUp => &self.gate_up,
            Group::Down => &self.down,
        }
    }

    /// The weights of one module, [outputs, inputs].
    pub fn module(&self, module: Module, config: &DecoderConfig) -> candle_core::Result<Tensor> {
        let groups = [Group::Qkv, Group::Output, Group::GateUp, Group::Down];
        for group in groups {
            if let Some(rows) = group.columns(module, config) {
                return self.linear(group).weight.narrow(0, rows.start, rows.len());
            }
        }
        candle_core::bail!("{} stands in no group", module.name())
    }
}

/// What stands below and above the layers.
#[derive(Debug)]
pub(crate) struct Ends {
    /// [vocabulary, hidden].
    pub embedding: Tensor,
    pub norm: Tensor,
    /// [vocabulary, hidden]; the embedding where they are tied.
    pub head: Tensor,
    /// The scalar head, [1, hidden], in f32.
    pub score: Option<Tensor>,
}

/// All weights. Norms are held as what they act as, 1 + w where the model has unit offsets.
#[derive(Debug)]
pub(crate) struct Weights {
    pub layers: Vec<Layer>,
    pub ends: Ends,
}

/// Where weights come from.
enum Source<'a> {
    Model(&'a Model),
    Values(&'a [f32]),
}

/// Brings weights to the device, one after the other.
struct Upload<'a> {
    source: Source<'a>,
    config: &'a DecoderConfig,
    layout: &'a WeightLayout,
    dtype: DType,
    device: &'a Device,
}

impl Weights {
    /// Reads every weight; `progress` hears of each finished layer.
    pub fn load(
        model: &Model,
        layout: &WeightLayout,
        (dtype, device): (DType, &Device),
        mut progress: impl FnMut(usize),
    ) -> Result<Self> {
        let upload = Upload { source: Source::Model(model), config: model.config(), layout, dtype, device };
        let ends = upload.ends()?;
        let layers = (0..layout.layers.len()).map(|index| {
            let layer = upload.layer(index)?;
            progress(index + 1);
            Ok(layer)
        });
        Ok(Self { layers: layers.collect::<Result<_>>()?, ends })
    }

    /// Takes over other weights of the same model.
    pub fn refresh(&mut self, weights: &FullWeights, config: &DecoderConfig) -> Result<()> {
        let (dtype, device) = (self.ends.embedding.dtype(), self.ends.embedding.device().clone());
        let source = Source::Values(&weights.values);
        let upload = Upload { source, config, layout: &weights.layout, dtype, device: &device };
        for (index, layer) in self.layers.iter_mut().enumerate() {
            *layer = upload.layer(index)?;
        }
        self.ends = upload.ends()?;
        Ok(())
    }
}

impl Upload<'_> {
    fn layer(&self, index: usize) -> Result<Layer> {
        let (config, places) = (self.config, &self.layout.layers[index]);
        let optional =
            |place: &Option<Range<usize>>| place.as_ref().map(|place| self.norm(place)).transpose();
        let LayerPlaces { qkv, output, gate_up, down, .. } = places;
        let head_norms = match &places.head_norms {
            Some([queries, keys]) => Some([self.norm(queries)?, self.norm(keys)?]),
            None => None,
        };
        let plain = 1.0 / (config.head_dim as f32).sqrt();
        Ok(Layer {
            attention: Attention {
                scale: f64::from(config.attention_scale.unwrap_or(plain)),
                softcap: config.attention_softcap.map(f64::from),
            },
            window: config.layer_attention[index].window,
            rotary: config.layer_attention[index].rotary,
            attention_norm: self.norm(&places.attention_norm)?,
            qkv: self.linear(qkv, Group::Qkv)?,
            head_norms,
            output: self.linear(output, Group::Output)?,
            attention_output_norm: optional(&places.attention_output_norm)?,
            mlp_norm: self.norm(&places.mlp_norm)?,
            gate_up: self.linear(gate_up, Group::GateUp)?,
            down: self.linear(down, Group::Down)?,
            mlp_output_norm: optional(&places.mlp_output_norm)?,
        })
    }

    fn ends(&self) -> Result<Ends> {
        let shape = [self.config.vocab_size, self.config.hidden_size];
        let embedding = self.matrix(&self.layout.embedding, shape)?;
        let tied = self.layout.head == self.layout.embedding;
        Ok(Ends {
            head: if tied { embedding.clone() } else { self.matrix(&self.layout.head, shape)? },
            embedding,
            norm: self.norm(&self.layout.norm)?,
            score: match &self.layout.score {
                Some(place) => Some(self.tensor(self.values(place)?, &[1, self.config.hidden_size])?),
                None => None,
            },
        })
    }

    fn linear(&self, place: &LinearPlace, group: Group) -> Result<Linear> {
        let bias = match place.bias.len() {
            0 => None,
            outputs => Some(self.tensor(self.values(&place.bias)?, &[outputs])?),
        };
        Ok(Linear { weight: self.matrix(&place.weight, group.shape(self.config))?, bias })
    }

    fn matrix(&self, place: &Range<usize>, shape: [usize; 2]) -> Result<Tensor> {
        self.tensor(self.values(place)?, &shape)?.to_dtype(self.dtype).map_err(failed)
    }

    fn norm(&self, place: &Range<usize>) -> Result<Tensor> {
        let mut values = self.values(place)?;
        if self.config.unit_offset_norms {
            values.iter_mut().for_each(|w| *w += 1.0);
        }
        self.tensor(values, &[place.len()])
    }

    fn tensor(&self, values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        Tensor::from_vec(values, shape, self.device).map_err(failed)
    }

    /// What lies at one place of the layout, be it several weights.
    fn values(&self, place: &Range<usize>) -> Result<Vec<f32>> {
        let model = match self.source {
            Source::Values(values) => return Ok(values[place.clone()].to_vec()),
            Source::Model(model) => model,
        };
        let slots = &self.layout.slots;
        let first = slots.partition_point(|slot| slot.range.start < place.start);
        let (mut values, mut part) = (Vec::with_capacity(place.len()), Vec::new());
        for slot in slots[first..].iter().take_while(|slot| slot.range.end <= place.end) {
            model.read(&slot.name, &mut part)?;
            values.extend_from_slice(&part);
        }
        Ok(values)
    }
}
