//! A decoder before it is loaded, and the bytes that its weights will take.

use super::CpuOptions;
use super::forward::{GATE_UP, QKV};
use collimate_kernels::Quantisation;
use collimate_kernels::gemm::{Frozen, Packed};
use collimate_kernels::quant::{FourBit, Nibbles, Packing};
use collimate_model::{DecoderConfig, Model, Module, SCORE};

/// A decoder that is to be loaded, and the files that hold it, where they are at hand.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    pub(super) config: &'a DecoderConfig,
    pub(super) model: Option<&'a Model>,
}

impl<'a> From<&'a DecoderConfig> for Described<'a> {
    fn from(config: &'a DecoderConfig) -> Self {
        Self { config, model: None }
    }
}

impl<'a> From<&'a Model> for Described<'a> {
    fn from(model: &'a Model) -> Self {
        Self { config: model.config(), model: Some(model) }
    }
}

impl<'a> Described<'a> {
    /// What is known without the files.
    pub fn config(self) -> &'a DecoderConfig {
        self.config
    }

    /// Bytes that the weights take once they are loaded. Blocks of a GGUF file that are written with as they are count
    /// as f32.
    pub fn weight_bytes(self, options: CpuOptions) -> u64 {
        let config = self.config;
        let outer = |backward| packed([config.hidden_size, config.vocab_size], options, backward);
        let embedding = if config.has_lm_head() { outer(false) } else { 0 };
        let linear: [&[Module]; 4] = [&QKV, &[Module::O], &GATE_UP, &[Module::Down]];
        let layer = |layer| linear.iter().map(|modules| self.linear(layer, modules, options)).sum::<usize>();
        let layers: usize = (0..config.num_hidden_layers).map(layer).sum();
        // Norms, biases and the scalar head stay as they are.
        let vectors = config.weights().into_iter().filter(|(name, shape)| shape.len() == 1 || name == SCORE);
        let vectors: usize = vectors.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        (outer(options.training) + embedding + layers + vectors * size_of::<f32>()) as u64
    }

    /// Bytes of the matrix, or of the matrices, that modules with the same input make up.
    fn linear(self, layer: usize, modules: &[Module], options: CpuOptions) -> usize {
        let sizes = modules.iter().map(|module| module.dimensions(self.config));
        let frozen = modules.iter().zip(sizes.clone()).map(|(module, (inputs, outputs))| {
            let packing = self.packing(&format!("{}.weight", module.path(layer)), options)?;
            Some(Frozen::planned_bytes(packing, [outputs, inputs]))
        });
        frozen.sum::<Option<usize>>().unwrap_or_else(|| {
            let (inputs, outputs) = sizes.fold((0, 0), |(_, sum), (inputs, outputs)| (inputs, sum + outputs));
            packed([inputs, outputs], options, options.training)
        })
    }

    /// How a matrix will be held that is quantised: as it is stored, if that is the wanted way.
    fn packing(self, name: &str, options: CpuOptions) -> Option<Packing> {
        let stored = self.model.and_then(|model| model.packing(name));
        let kind = match options.quantise {
            Quantisation::None => return None,
            Quantisation::Gguf => return stored.filter(|stored| matches!(stored, Packing::Blocks(_))),
            Quantisation::Int8 => return Some(Packing::Rows),
            Quantisation::Nf4 => FourBit::Nf4,
            Quantisation::Fp4 => FourBit::Fp4,
        };
        let own = Packing::FourBit { kind, block: Nibbles::BLOCK, nested: options.double_quant };
        let same =
            |stored: &Packing| matches!(stored, Packing::FourBit { kind: stored, .. } if *stored == kind);
        Some(stored.filter(same).unwrap_or(own))
    }
}

/// Bytes of a matrix in `dtype`, for one direction or both.
fn packed([inputs, outputs]: [usize; 2], CpuOptions { dtype, .. }: CpuOptions, backward: bool) -> usize {
    let turned = if backward { Packed::planned_bytes(outputs, inputs, dtype) } else { 0 };
    Packed::planned_bytes(inputs, outputs, dtype) + turned
}
