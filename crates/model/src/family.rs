//! The families of decoders: one small file for each, that maps its configuration to [`DecoderConfig`].
//!
//! A new family is one file here, one line in [`FAMILIES`] and one variant of [`Family`].

mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::DecoderConfig;
use crate::config_file::ConfigFile;
use crate::conventions::SublayerNorms;
use crate::error::{Error, Result, nearest};
use crate::module::Module;

/// The families that this build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Llama, SmolLM, TinyLlama, and whatever a GGUF file calls `llama`.
    Llama,
    /// Mistral: a window.
    Mistral,
    /// Qwen2 and Qwen2.5: bias on q, k and v.
    Qwen2,
    /// Qwen3: norms over the heads of q and k.
    Qwen3,
    /// SmolLM3: layers without rotary embedding.
    SmolLm3,
    /// Gemma 2: soft caps, windows, norms around sublayers.
    Gemma2,
    /// Gemma 3: norms over heads, windows with a rotary embedding of their own.
    Gemma3,
    /// Phi-3: fused projections.
    Phi3,
}

/// What a family's file provides.
#[derive(Debug)]
pub(crate) struct Description {
    /// `model_type` in `config.json`.
    pub(crate) model_types: &'static [&'static str],
    /// `architectures` in `config.json`.
    pub(crate) architectures: &'static [&'static str],
    /// `general.architecture` in a GGUF file; also the prefix of its metadata keys.
    pub(crate) gguf_architecture: &'static str,
    /// Whether llama.cpp's converter reorders the rows of q and k projections for adjacent rotary pairs.
    pub(crate) gguf_permutes_rotary: bool,
    /// Whether a window that a GGUF file names is the family's; files of other families must name none.
    pub(crate) gguf_windows: bool,
    /// Where the norms of a layer stand.
    pub(crate) sublayer_norms: SublayerNorms,
    /// Whether a weight w of any norm acts as 1 + w. GGUF files hold 1 + w.
    pub(crate) unit_offset_norms: bool,
    /// Projections that are stored as one matrix.
    pub(crate) fused: &'static [Fused],
    /// Sizes that the text's part of a larger model leaves out.
    pub(crate) text_sizes: &'static [(&'static str, usize)],
    /// What may stand in the place of `model.` where the weights are a part of a larger model's.
    pub(crate) nested_prefixes: &'static [&'static str],
    /// Makes sense of a configuration file; the result is not checked yet.
    pub(crate) configure: fn(&ConfigFile, &Path) -> Result<DecoderConfig>,
    /// Adds the fields of `config.json` that Llama has not.
    pub(crate) describe: fn(&DecoderConfig, &mut Map<String, Value>),
}

/// What families have in common unless their file says otherwise.
const LIKE_LLAMA: Description = Description {
    model_types: &[],
    architectures: &[],
    gguf_architecture: "llama",
    gguf_permutes_rotary: false,
    gguf_windows: false,
    sublayer_norms: SublayerNorms::Before,
    unit_offset_norms: false,
    fused: &[],
    text_sizes: &[],
    nested_prefixes: &[],
    configure: llama::configure,
    describe: |_, _| {},
};

/// Projections of a layer that are stored as one matrix, one below the other.
#[derive(Debug)]
pub(crate) struct Fused {
    /// The matrix's name, between `model.layers.N.` and `.weight`.
    pub(crate) name: &'static str,
    /// The projections in it, from top to bottom.
    pub(crate) modules: &'static [Module],
}

impl Description {
    /// The decoder that a configuration file of this family describes.
    pub(crate) fn decoder(&self, file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
        let config = (self.configure)(file, path)?;
        let (sublayer_norms, unit_offset_norms) = (self.sublayer_norms, self.unit_offset_norms);
        DecoderConfig { sublayer_norms, unit_offset_norms, ..config }.check(path)
    }
}

/// Of families with the same name in GGUF files the first is taken.
static FAMILIES: [&Description; 8] = [
    &llama::LLAMA,
    &mistral::MISTRAL,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
    &smollm3::SMOLLM3,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &phi3::PHI3,
];

/// The description of a family.
pub(crate) fn of(family: Family) -> &'static Description {
    match family {
        Family::Llama => &llama::LLAMA,
        Family::Mistral => &mistral::MISTRAL,
        Family::Qwen2 => &qwen2::QWEN2,
        Family::Qwen3 => &qwen3::QWEN3,
        Family::SmolLm3 => &smollm3::SMOLLM3,
        Family::Gemma2 => &gemma2::GEMMA2,
        Family::Gemma3 => &gemma3::GEMMA3,
        Family::Phi3 => &phi3::PHI3,
    }
}

/// Finds the family of a configuration file and lets it make sense of the rest.
pub(crate) fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    find(file, path)?.decoder(file, path)
}

/// The family that names `architecture` as its own in GGUF files.
pub(crate) fn by_gguf_architecture(architecture: &str, path: &Path) -> Result<&'static Description> {
    let mut known = FAMILIES.map(|family| family.gguf_architecture).to_vec();
    known.dedup();
    FAMILIES
        .into_iter()
        .find(|family| family.gguf_architecture == architecture)
        .ok_or_else(|| unknown(architecture, &known, path))
}

/// An architecture decides before the model type: a classifier has its decoder's type, but another head.
pub(crate) fn find(file: &ConfigFile, path: &Path) -> Result<&'static Description> {
    if let Some((architecture, _)) = file.architecture() {
        let known: Vec<_> = FAMILIES.into_iter().flat_map(|family| family.architectures).copied().collect();
        return FAMILIES
            .into_iter()
            .find(|family| family.architectures.contains(&architecture.as_str()))
            .ok_or_else(|| unknown(&architecture, &known, path));
    }
    let model_type = file.model_type.as_deref().unwrap_or("(no model_type)");
    let known: Vec<_> = FAMILIES.into_iter().flat_map(|family| family.model_types).copied().collect();
    FAMILIES
        .into_iter()
        .find(|family| family.model_types.contains(&model_type))
        .ok_or_else(|| unknown(model_type, &known, path))
}

fn unknown(kind: &str, known: &[&str], path: &Path) -> Error {
    Error::UnknownFamily {
        path: path.to_owned(),
        kind: kind.to_owned(),
        known: known.join(", "),
        nearest: nearest(kind, known.iter().copied()),
    }
}
