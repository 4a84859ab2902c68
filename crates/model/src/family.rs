//! The families of decoders: one small file for each, that maps its configuration to [`DecoderConfig`].
//!
//! A new family is one file here, one line in [`FAMILIES`] and one variant of [`Family`].

mod llama;
mod qwen2;

use std::path::Path;

use crate::config::DecoderConfig;
use crate::config_file::ConfigFile;
use crate::error::{Error, Result, nearest};

/// The families that this build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Llama, SmolLM, TinyLlama, and Mistral without a sliding window.
    Llama,
    /// Qwen2 and Qwen2.5: bias on q, k and v.
    Qwen2,
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
    /// Makes sense of a configuration file; the result is not checked yet.
    pub(crate) configure: fn(&ConfigFile, &Path) -> Result<DecoderConfig>,
}

impl Description {
    /// The decoder that a configuration file of this family describes.
    pub(crate) fn decoder(&self, file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
        (self.configure)(file, path)?.check(path)
    }
}

static FAMILIES: [&Description; 2] = [&llama::LLAMA, &qwen2::QWEN2];

/// The description of a family.
pub(crate) fn of(family: Family) -> &'static Description {
    match family {
        Family::Llama => &llama::LLAMA,
        Family::Qwen2 => &qwen2::QWEN2,
    }
}

/// Finds the family of a configuration file and lets it make sense of the rest.
pub(crate) fn configure(file: &ConfigFile, path: &Path) -> Result<DecoderConfig> {
    find(file, path)?.decoder(file, path)
}

/// The family that names `architecture` as its own in GGUF files.
pub(crate) fn by_gguf_architecture(architecture: &str, path: &Path) -> Result<&'static Description> {
    let known = FAMILIES.map(|family| family.gguf_architecture);
    FAMILIES
        .into_iter()
        .find(|family| family.gguf_architecture == architecture)
        .ok_or_else(|| unknown(architecture, &known, path))
}

/// An architecture decides before the model type: a classifier has its decoder's type, but another head.
fn find(file: &ConfigFile, path: &Path) -> Result<&'static Description> {
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
