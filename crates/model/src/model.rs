//! A model on disk, opened: its configuration is known, its weights are read one by one on demand.

use std::path::{Path, PathBuf};

use collimate_kernels::quant::Packing;
use collimate_run::hub_cache::hub_name;

use crate::bitsandbytes::StoredCodes;
use crate::config::DecoderConfig;
use crate::config_file::unsupported;
use crate::elements::Elements;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Metadata, StoredBlocks};
use crate::lora::Lora;
use crate::merge::{changes, merge};
use crate::output_heads::{OutputHeads, SCORE};
use crate::safetensors::Safetensors;
use crate::stored_type::StoredType;
use crate::weights::Weights;

/// A part of a scalar head that transformers' classifiers do not have.
const SCORE_BIAS: &str = "score.bias";

/// A Hugging Face model folder or a GGUF file.
///
/// Holds headers only, and the adapters that are merged; may be shared between threads.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    pub(crate) config: DecoderConfig,
    weights: Weights,
    /// Merged into what is read, one after the other.
    pub(crate) adapters: Vec<Lora>,
    /// The scalar head in place of the stored one.
    pub(crate) score: Option<Vec<f32>>,
    /// Whether embedding and head were one matrix, until an adapter was merged that has one of its own for either.
    pub(crate) untied: bool,
}

impl Model {
    /// The name of the embedding, `[vocabulary, hidden]`.
    pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";

    /// The name of the head that scores tokens, `[vocabulary, hidden]`, where it is not the embedding.
    pub(crate) const HEAD: &str = "lm_head.weight";

    /// Opens a Hugging Face folder or a `.gguf` file and checks that every weight that the configuration asks
    /// for is there, in its shape. No weight is read yet.
    ///
    /// Errors name the file and what is wrong with it: nothing there, an unknown family, a setting that is not
    /// supported, a torn or damaged file, a missing or misshapen tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|reason| collimate_run::Error::read(path, reason))?;
        let (mut config, mut weights) = if metadata.is_dir() { open_folder(path)? } else { open_file(path)? };
        let score = weights.shape(SCORE).is_some_and(|shape| *shape == [1, config.hidden_size]);
        if score && config.output_heads == OutputHeads::Tokens {
            config.output_heads = OutputHeads::Both;
        }
        weights.find_pieces(&config);
        weights.check(&config, path)?;
        if weights.shape(SCORE_BIAS).is_some() && config.output_heads.score() {
            return Err(unsupported(path, SCORE_BIAS, "there", "a scalar head must have no bias"));
        }
        Ok(Self::with_weights(path.to_owned(), config, weights))
    }

    pub(crate) fn with_weights(path: PathBuf, config: DecoderConfig, weights: Weights) -> Self {
        Self { path, config, weights, adapters: Vec::new(), score: None, untied: false }
    }

    /// Whether there is a `config.json` beside the weights.
    pub(crate) fn has_config_file(&self) -> bool {
        matches!(self.weights, Weights::Safetensors(_))
    }

    /// The folder or file that the model was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The decoder's description.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The name of the matrix that scores tokens.
    pub(crate) fn head_name(&self) -> &'static str {
        if self.config.has_lm_head() { Self::HEAD } else { Self::EMBEDDING }
    }

    /// The metadata of a GGUF file, where tokenizer and chat template stand; none for a folder.
    pub fn gguf_metadata(&self) -> Option<&Metadata> {
        match &self.weights {
            Weights::Gguf(gguf) => Some(gguf.metadata()),
            Weights::Safetensors(_) | Weights::Blank(_) => None,
        }
    }

    /// The type in which most of the weights' numbers are stored; none where that is a quantised one.
    pub fn stored_type(&self) -> Option<StoredType> {
        let mut counts: Vec<(Option<StoredType>, usize)> = Vec::new();
        for (name, shape) in self.config.weights() {
            let (stored, count) = (self.weights.stored_type(&name), shape.iter().product::<usize>());
            match counts.iter_mut().find(|(known, _)| *known == stored) {
                Some((_, counted)) => *counted += count,
                None => counts.push((stored, count)),
            }
        }
        counts.into_iter().max_by_key(|(_, count)| *count).and_then(|(stored, _)| stored)
    }

    /// How the numbers of the tensor of this canonical name lie in the file.
    pub(crate) fn elements(&self, name: &str) -> Option<Elements> {
        self.weights.elements(name)
    }

    /// Whether there is a tensor of this canonical name.
    pub fn has(&self, name: &str) -> bool {
        (name == SCORE && self.score.is_some()) || self.weights.shape(name).is_some()
    }

    /// Replaces `out` by the numbers of the tensor of this canonical Hugging Face name, such as
    /// `model.layers.0.self_attn.q_proj.weight`, as f32 whatever the file's type; returns its shape, row-major.
    ///
    /// Adapters that were merged are in the numbers. Beside `out` it takes a buffer of one mebibyte. Errors: no such tensor, an unreadable type, a failed read.
    pub fn read(&self, name: &str, out: &mut Vec<f32>) -> Result<Vec<usize>> {
        if let Some(score) = self.score.as_ref().filter(|_| name == SCORE) {
            out.clone_from(score);
            return Ok(vec![1, score.len()]);
        }
        let stored = self.stored(name);
        let Some(shape) = self.weights.shape(stored) else {
            return Err(self.weights.missing(name, &self.path));
        };
        out.clear();
        self.weights.read(stored, out)?;
        self.adapters.iter().for_each(|adapter| merge(adapter, name, out));
        Ok(shape.to_vec())
    }

    /// The tensor of this canonical name as the blocks in which a GGUF file stores it; none where it is stored in another
    /// way, or an adapter is merged into it.
    ///
    /// Errors: no such tensor, a failed read.
    pub fn blocks(&self, name: &str) -> Result<Option<StoredBlocks>> {
        match &self.weights {
            Weights::Gguf(gguf) if !self.adapters.iter().any(|adapter| changes(adapter, name)) => {
                gguf.blocks(self.stored(name))
            }
            _ => Ok(None),
        }
    }

    /// The tensor of this canonical name as bitsandbytes quantised it; none where it is stored in another way, or an
    /// adapter is merged into it. None either where it is a part of a fused matrix, such as Phi-3's `qkv_proj`: its
    /// numbers are read, and quantised anew by who wants that.
    ///
    /// Errors: parts that are missing or do not belong together, a failed read.
    pub fn codes(&self, name: &str) -> Result<Option<StoredCodes>> {
        match &self.weights {
            Weights::Safetensors(weights) if !self.adapters.iter().any(|adapter| changes(adapter, name)) => {
                weights.codes(name)
            }
            _ => Ok(None),
        }
    }

    /// How the tensor of this canonical name is quantised: what [`Model::blocks`] or [`Model::codes`] would give, known
    /// without reading it.
    pub fn packing(&self, name: &str) -> Option<Packing> {
        if self.adapters.iter().any(|adapter| changes(adapter, name)) {
            return None;
        }
        let name = self.stored(name);
        match (&self.weights, self.weights.elements(name)) {
            (Weights::Safetensors(weights), _) => weights.packing(name),
            (_, Some(Elements::Blocks(kind))) => Some(Packing::Blocks(kind)),
            _ => None,
        }
    }

    /// How the matrix is quantised in which the tensor lies, be it with others; adapters aside.
    pub(crate) fn matrix_packing(&self, name: &str) -> Option<Packing> {
        match &self.weights {
            Weights::Safetensors(weights) => weights.matrix_packing(self.stored(name)),
            _ => None,
        }
    }

    /// The name under which the tensor of a canonical name is stored.
    fn stored<'a>(&self, name: &'a str) -> &'a str {
        if self.untied && name == Self::HEAD { Self::EMBEDDING } else { name }
    }
}

fn open_folder(path: &Path) -> Result<(DecoderConfig, Weights)> {
    let config = path.join("config.json");
    if !config.exists() {
        return Err(no_config(path));
    }
    let config = DecoderConfig::read(&config)?;
    let single = path.join("model.safetensors");
    let index = path.join("model.safetensors.index.json");
    let weights = if single.exists() {
        Safetensors::open(&single)?
    } else if index.exists() {
        Safetensors::open_sharded(&index)?
    } else {
        return Err(incomplete(
            path,
            "there is neither model.safetensors nor model.safetensors.index.json",
            "fetch the weights as safetensors; other kinds (pytorch_model.bin) are not read",
        ));
    };
    Ok((config, Weights::Safetensors(weights)))
}

fn open_file(path: &Path) -> Result<(DecoderConfig, Weights)> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let hint = "give the folder that holds it, with its config.json";
        return Err(not_a_model(path, "a safetensors file does not describe itself", hint));
    }
    let gguf = Gguf::open(path)?;
    Ok((gguf.decoder_config()?, Weights::Gguf(Box::new(gguf))))
}

/// Guesses what was meant by a folder without `config.json`.
fn no_config(path: &Path) -> Error {
    if path.join("adapter_config.json").exists() {
        let hint = "give the base model here, and this folder as the adapter";
        return not_a_model(path, "it is an adapter", hint);
    }
    incomplete(
        path,
        "there is no config.json",
        "give a Hugging Face model folder (config.json, model.safetensors, tokenizer.json) or a .gguf file",
    )
}

/// A folder that lacks something; other programs may have fetched only what they needed into the Hub's cache.
fn incomplete(path: &Path, found: &str, hint: &str) -> Error {
    match (hub_name(path), gguf_file(path)) {
        (Some(id), Some(file)) => {
            not_a_model(path, found, &format!("it holds a GGUF file: give that, `{id}/{file}`"))
        }
        (Some(id), None) => {
            let hint =
                format!("the cache holds only a part of it: type `collimate model fetch {id}` for the rest");
            not_a_model(path, found, &hint)
        }
        (None, _) => not_a_model(path, found, hint),
    }
}

/// The first GGUF file in a folder, by its name.
fn gguf_file(folder: &Path) -> Option<String> {
    let names =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".gguf")).min()
}

fn not_a_model(path: &Path, found: &str, hint: &str) -> Error {
    Error::NotAModel { path: path.to_owned(), found: found.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use collimate_run::atomic;
    use collimate_run::hub_cache::{MAIN, REFS, SNAPSHOTS, model_folder};

    use super::*;

    #[test]
    fn of_a_folder_in_the_cache_the_file_is_named_that_can_be_opened() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join(model_folder("org/name"));
        let snapshot = model.join(SNAPSHOTS).join("commit");
        for folder in [&snapshot, &model.join(REFS)] {
            std::fs::create_dir_all(folder).unwrap();
        }
        atomic::write(model.join(REFS).join(MAIN), b"commit").unwrap();
        let hint = || match Model::open(&snapshot) {
            Err(Error::NotAModel { hint, .. }) => hint,
            other => panic!("{other:?}"),
        };
        assert!(hint().contains("`collimate model fetch org/name`"), "{}", hint());
        atomic::write(snapshot.join("q8.gguf"), b"").unwrap();
        atomic::write(snapshot.join("q4.gguf"), b"").unwrap();
        assert!(hint().contains("`org/name/q4.gguf`"), "{}", hint());
    }
}
