//! A model and what is merged into it: the settings, and what is opened from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collimate_model::gguf::Metadata;
use collimate_model::{Lora, Model, Tokenizer};
use collimate_run::{Context, Event};
use serde::Serialize;

use crate::Error;

/// A model, and adapters to be merged into it.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Sources {
    /// The model: a Hugging Face folder or a GGUF file.
    #[arg(long, value_name = "PATH")]
    #[serde(skip)]
    pub model_name_or_path: PathBuf,
    /// An adapter that is merged into it; may be repeated.
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip)]
    pub adapter_name_or_path: Vec<PathBuf>,
    /// What each adapter's change is multiplied by, in their order and separated by commas; 1 for each, if not given.
    /// The weights become W + the sum of weight · scale · B·A; one with DoRA or modules trained whole has the weight 1.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapter_weights: Vec<f32>,
}

/// The same, opened; no weight of the model is read yet.
pub(super) struct Opened {
    /// The model as it stands on the disk.
    pub base: Model,
    /// With the adapters in it.
    pub merged: Model,
}

impl Sources {
    /// All that is read.
    pub(super) fn inputs(&self) -> Vec<PathBuf> {
        std::iter::once(&self.model_name_or_path).chain(&self.adapter_name_or_path).cloned().collect()
    }

    /// Opens model and adapters.
    ///
    /// # Errors
    /// Weights that are not one finite number for each adapter; one other than 1 for an adapter that is no product of
    /// matrices alone; two adapters that have the same module whole; all that makes a model or an adapter unreadable.
    pub(super) fn open(&self) -> Result<Opened, Error> {
        let weights = self.weights()?;
        let (base, mut merged) =
            (Model::open(&self.model_name_or_path)?, Model::open(&self.model_name_or_path)?);
        let mut whole: BTreeMap<&str, &Path> = BTreeMap::new();
        for (folder, weight) in self.adapter_name_or_path.iter().zip(weights) {
            let lora = Lora::load(folder, base.config())?;
            let modules =
                [("embed_tokens", &lora.embedding), ("lm_head", &lora.head), ("score", &lora.score)];
            for (module, _) in modules.into_iter().filter(|(_, place)| place.is_some()) {
                if let Some(first) = whole.insert(module, folder) {
                    let (first, second) = (first.to_owned(), folder.clone());
                    return Err(Error::TwoWhole { module, first, second });
                }
            }
            merged = merged.merged_weighted(lora, weight)?;
        }
        Ok(Opened { base, merged })
    }

    /// One number for each adapter.
    fn weights(&self) -> Result<Vec<f32>, Error> {
        let (weights, adapters) = (&self.adapter_weights, self.adapter_name_or_path.len());
        match weights.iter().find(|weight| !weight.is_finite()) {
            Some(weight) => Err(Error::AdapterWeight { weight: *weight }),
            None if weights.is_empty() => Ok(vec![1.0; adapters]),
            None if weights.len() == adapters => Ok(weights.clone()),
            None => Err(Error::AdapterWeights { adapters, weights: weights.len() }),
        }
    }

    /// What turns text into tokens: the model's own, or where that has no chat template, that of the first adapter
    /// with one and as many tokens. None where there is no tokenizer at all.
    pub(super) fn tokenizer(&self, base: &Model, context: &Context) -> Result<Option<Tokenizer>, Error> {
        let Some(own) = own_tokenizer(base)? else {
            let text = format!("{} holds no tokenizer, so that none is written", base.path().display());
            context.report(Event::Warning(&text));
            return Ok(None);
        };
        if own.chat_template().is_some() {
            return Ok(Some(own));
        }
        for folder in self.adapter_name_or_path.iter().filter(|folder| folder.join("tokenizer.json").exists())
        {
            let other = Tokenizer::from_folder(folder)?;
            if other.chat_template().is_some() && other.vocab_size() == own.vocab_size() {
                context.report(Event::Note(&format!("the chat template is that of {}", folder.display())));
                return Ok(Some(other));
            }
        }
        Ok(Some(own))
    }
}

/// The model's own tokenizer; none where it has none.
pub(super) fn own_tokenizer(model: &Model) -> Result<Option<Tokenizer>, Error> {
    let without_tokens = |metadata: &Metadata| !metadata.has("tokenizer.ggml.tokens");
    match model.tokenizer() {
        Err(collimate_model::Error::NoTokenizer { .. }) => Ok(None),
        _ if model.gguf_metadata().is_some_and(without_tokens) => Ok(None),
        own => Ok(Some(own?)),
    }
}
