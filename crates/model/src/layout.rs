//! Where each weight of a model lies in one flat vector.

use std::ops::Range;

use crate::config::DecoderConfig;
use crate::conventions::HEAD_NORMS;
use crate::module::Module;
use crate::output_heads::SCORE;

/// How one flat vector of parameters is cut into tensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensors {
    /// Where each lies, one after the other.
    pub places: Vec<Range<usize>>,
    /// The one of them that is an embedding: most of its rows have no gradient in most steps.
    pub embedding: Option<Range<usize>>,
}

impl From<&[Range<usize>]> for Tensors {
    /// Tensors of which none is an embedding.
    fn from(places: &[Range<usize>]) -> Self {
        Self { places: places.to_vec(), embedding: None }
    }
}

/// One weight and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSlot {
    /// Its canonical Hugging Face name.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Where it lies in the values.
    pub range: Range<usize>,
}

/// One linear layer, or several with the same input, their outputs side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearPlace {
    /// The weights one below the other, `[outputs, inputs]`.
    pub weight: Range<usize>,
    /// The biases, `[outputs]`; empty if there are none.
    pub bias: Range<usize>,
}

/// One decoder layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerPlaces {
    /// The norm before attention.
    pub attention_norm: Range<usize>,
    /// Queries, keys and values.
    pub qkv: LinearPlace,
    /// The norms over each head of q and of k, `[head_dim]` each.
    pub head_norms: Option<[Range<usize>; 2]>,
    /// The output projection.
    pub output: LinearPlace,
    /// The norm on what attention gives.
    pub attention_output_norm: Option<Range<usize>>,
    /// The norm before the MLP.
    pub mlp_norm: Range<usize>,
    /// Gate and up.
    pub gate_up: LinearPlace,
    /// Down.
    pub down: LinearPlace,
    /// The norm on what the MLP gives.
    pub mlp_output_norm: Option<Range<usize>>,
}

/// The places of all weights of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightLayout {
    /// Every weight, in the order of the values.
    pub slots: Vec<WeightSlot>,
    /// The embedding, `[vocabulary, hidden]`.
    pub embedding: Range<usize>,
    /// The decoder layers.
    pub layers: Vec<LayerPlaces>,
    /// The last norm.
    pub norm: Range<usize>,
    /// The head's matrix, `[vocabulary, hidden]`; the embedding again where they are tied, or tokens have no
    /// head.
    pub head: Range<usize>,
    /// The scalar head, `[1, hidden]`, last of all.
    pub score: Option<Range<usize>>,
}

impl WeightLayout {
    /// The layout for a model of this configuration.
    pub fn new(config: &DecoderConfig) -> Self {
        let matrix = vec![config.vocab_size, config.hidden_size];
        let mut slots = Slots { slots: Vec::new(), config };
        let embedding = slots.push("model.embed_tokens.weight".to_owned(), matrix.clone());
        let layers = (0..config.num_hidden_layers).map(|layer| slots.layer(layer)).collect();
        let norm = slots.push("model.norm.weight".to_owned(), vec![config.hidden_size]);
        let head = match config.has_lm_head() {
            true => slots.push("lm_head.weight".to_owned(), matrix),
            false => embedding.clone(),
        };
        let score = config.output_heads.score();
        let score = score.then(|| slots.push(SCORE.to_owned(), vec![1, config.hidden_size]));
        Self { slots: slots.slots, embedding, layers, norm, head, score }
    }

    /// Values in all.
    pub fn len(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.range.end)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where each weight lies, in their order.
    pub fn tensors(&self) -> Tensors {
        let places = self.slots.iter().map(|slot| slot.range.clone()).collect();
        Tensors { places, embedding: Some(self.embedding.clone()) }
    }

    /// Norms and biases, which weight decay leaves alone, as transformers' trainer does; in order.
    pub fn undecayed(&self) -> Vec<Range<usize>> {
        self.slots.iter().filter(|slot| slot.shape.len() == 1).map(|slot| slot.range.clone()).collect()
    }
}

/// Slots in the making.
struct Slots<'a> {
    slots: Vec<WeightSlot>,
    config: &'a DecoderConfig,
}

impl Slots<'_> {
    fn end(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.range.end)
    }

    fn push(&mut self, name: String, shape: Vec<usize>) -> Range<usize> {
        let start = self.end();
        let range = start..start + shape.iter().product::<usize>();
        self.slots.push(WeightSlot { name, shape, range: range.clone() });
        range
    }

    fn layer(&mut self, layer: usize) -> LayerPlaces {
        let names = self.config.sublayer_norms.names();
        let (hidden, head) = (self.config.hidden_size, self.config.head_dim);
        LayerPlaces {
            attention_norm: self.norm(layer, names.attention, hidden),
            qkv: self.linear(layer, &[Module::Q, Module::K, Module::V]),
            head_norms: self.config.qk_norm.then(|| HEAD_NORMS.map(|name| self.norm(layer, name, head))),
            output: self.linear(layer, &[Module::O]),
            attention_output_norm: names.attention_output.map(|name| self.norm(layer, name, hidden)),
            mlp_norm: self.norm(layer, names.mlp, hidden),
            gate_up: self.linear(layer, &[Module::Gate, Module::Up]),
            down: self.linear(layer, &[Module::Down]),
            mlp_output_norm: names.mlp_output.map(|name| self.norm(layer, name, hidden)),
        }
    }

    fn norm(&mut self, layer: usize, name: &str, width: usize) -> Range<usize> {
        self.push(format!("model.layers.{layer}.{name}.weight"), vec![width])
    }

    fn linear(&mut self, layer: usize, modules: &[Module]) -> LinearPlace {
        let start = self.end();
        for module in modules {
            let (inputs, outputs) = module.dimensions(self.config);
            self.push(format!("{}.weight", module.path(layer)), vec![outputs, inputs]);
        }
        let middle = self.end();
        for module in modules.iter().filter(|module| module.has_bias(self.config)) {
            let outputs = module.dimensions(self.config).1;
            self.push(format!("{}.bias", module.path(layer)), vec![outputs]);
        }
        LinearPlace { weight: start..middle, bias: middle..self.end() }
    }
}
