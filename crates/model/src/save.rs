//! A whole model written as a Hugging Face folder.

use std::path::Path;

use crate::documents::Documents;
use crate::error::Result;
use crate::fusion::{AsStored, as_stored};
use crate::model::Model;
use crate::safetensors_writer::{self, SaveOptions, WeightSource};

impl Model {
    /// Writes the model into `folder`, which is made if need be, as transformers' `save_pretrained` does: weights
    /// as safetensors, `config.json`, and `generation_config.json` where there is one. Adapters that are merged are
    /// in the weights. The tokenizer is saved by itself ([`crate::Tokenizer::save`]).
    ///
    /// Takes the memory of the largest weight. Errors: a failed read or write; a GGUF file whose rotary embedding
    /// `config.json` cannot describe.
    pub fn save(&self, folder: &Path, options: SaveOptions) -> Result<()> {
        self.save_watched(folder, options, &|_| Ok(()))
    }

    /// The same, for somebody who waits: `watch` is told the name of each weight before it is read, and ends the
    /// work with an error of its own.
    pub fn save_watched(&self, folder: &Path, options: SaveOptions, watch: Watch<'_>) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|reason| collimate_run::Error::write(folder, reason))?;
        let documents = Documents::of(self, options.stored)?;
        let source = Watched { model: self, watch };
        let source = AsStored::new(&source, self.config());
        let tensors = as_stored(self.config(), self.config().weights());
        safetensors_writer::write(folder, tensors, &source, options)?;
        documents.save(folder)
    }
}

/// Is told the name of each weight before it is read.
pub type Watch<'a> = &'a dyn Fn(&str) -> Result<()>;

/// A model whose weights are read before somebody's eyes.
struct Watched<'a> {
    model: &'a Model,
    watch: Watch<'a>,
}

impl WeightSource for Watched<'_> {
    fn weight<'a>(&'a self, name: &str, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        (self.watch)(name)?;
        self.model.weight(name, buffer)
    }
}

impl WeightSource for Model {
    fn weight<'a>(&'a self, name: &str, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        self.read(name, buffer)?;
        Ok(buffer)
    }
}
