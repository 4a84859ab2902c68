//! All weights of a model in one vector, to be trained.

use std::path::Path;

use crate::config::DecoderConfig;
use crate::documents::Documents;
use crate::error::{Error, Result};
use crate::fusion::{AsStored, as_stored};
use crate::layout::WeightLayout;
use crate::model::Model;
use crate::output_heads::OutputHeads;
use crate::safetensors_writer::{self, SaveOptions, WeightSource};
use crate::stored_type::StoredType;

/// Every weight of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct FullWeights {
    /// Where each lies in the values.
    pub layout: WeightLayout,
    /// All of them, in f32.
    pub values: Vec<f32>,
    documents: Documents,
    config: DecoderConfig,
}

impl FullWeights {
    /// Reads all weights of a model, adapters that were merged included. Errors: a failed read; a GGUF file that
    /// could not be saved as a folder.
    pub fn read(model: &Model) -> Result<Self> {
        let layout = WeightLayout::new(model.config());
        let documents = Documents::of(model, StoredType::F32)?;
        let (mut values, mut buffer) = (Vec::with_capacity(layout.len()), Vec::new());
        for slot in &layout.slots {
            model.read(&slot.name, &mut buffer)?;
            values.extend_from_slice(&buffer);
        }
        Ok(Self { layout, values, documents, config: model.config().clone() })
    }

    /// Reads the weights that [`FullWeights::save`] wrote. Errors: those of [`Model::open`]; another model than the
    /// one that `decoder` describes.
    pub fn load(folder: &Path, decoder: &DecoderConfig) -> Result<Self> {
        let model = Model::open(folder)?;
        if model.config() != decoder {
            return Err(Error::NotAModel {
                path: folder.to_owned(),
                found: "its config.json describes another model than the one in training".to_owned(),
                hint: "give the model that this folder was trained from".to_owned(),
            });
        }
        Self::read(&model)
    }

    /// The same weights without the scalar head.
    pub fn without_score(mut self) -> Self {
        if let Some(score) = self.layout.score.take() {
            self.layout.slots.pop();
            if self.config.output_heads.tokens() {
                self.config.output_heads = OutputHeads::Tokens;
            }
            self.values.truncate(score.start);
        }
        self
    }

    /// Writes the model into `folder` as [`Model::save`] does, in f32.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|reason| collimate_run::Error::write(folder, reason))?;
        let source = AsStored::new(self, &self.config);
        let tensors = self.layout.slots.iter().map(|slot| (slot.name.clone(), slot.shape.clone())).collect();
        let tensors = as_stored(&self.config, tensors);
        safetensors_writer::write(folder, tensors, &source, SaveOptions::default())?;
        self.documents.save(folder)
    }
}

impl WeightSource for FullWeights {
    fn weight<'a>(&'a self, name: &str, _: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        let slot = self.layout.slots.iter().find(|slot| slot.name == name);
        Ok(slot.map_or(&[], |slot| &self.values[slot.range.clone()]))
    }
}
