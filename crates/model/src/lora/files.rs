//! An adapter's two files, `adapter_config.json` and `adapter_model.safetensors`, to the letter of PEFT.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use collimate_run::atomic;

use super::layout::Strictness;
use super::{Lora, LoraConfig};
use crate::config::DecoderConfig;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::output_heads::SCORE;
use crate::safetensors::SafetensorsFile;

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// What PEFT puts before the model's own names.
const PREFIX: &str = "base_model.model.";

/// The weights of an adapter's folder.
pub(crate) fn adapter_weights(folder: &Path) -> Result<SafetensorsFile> {
    SafetensorsFile::open(&find(folder, WEIGHTS_FILE)?)
}

impl Lora {
    /// Reads an adapter folder that PEFT or [`Lora::save`] wrote.
    ///
    /// Errors: missing or damaged files; settings that are not supported; a tensor that is missing, has
    /// another shape than the model asks for, or has no place in it.
    pub fn load(folder: &Path, decoder: &DecoderConfig) -> Result<Self> {
        let config = LoraConfig::read(&find(folder, CONFIG_FILE)?)?;
        let mut lora = Self::lay_out(config, decoder, Strictness::SomeNameMatches)?;
        let file = adapter_weights(folder)?;
        let matrices = lora.matrices();
        check(&matrices, &file)?;
        lora.values.reserve_exact(lora.parameters());
        for matrix in matrices {
            file.read(&matrix.name, &mut lora.values)?;
        }
        Ok(lora)
    }

    /// Writes the adapter into `folder`, which is made if need be, so that PEFT opens it: what began within the weights as
    /// [`Lora::difference`]. Weights are f32.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|source| collimate_run::Error::write(folder, source))?;
        let weights_path = folder.join(WEIGHTS_FILE);
        let unsound = |reason: String| Error::Safetensors { path: weights_path.clone(), reason };
        let saved = self.difference();
        let bytes: Vec<u8> = saved.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut tensors = Vec::new();
        for Matrix { name, shape, place } in saved.matrices() {
            let bytes = &bytes[4 * place.start..4 * place.end];
            let view = TensorView::new(Dtype::F32, shape, bytes);
            tensors.push((name, view.map_err(|error| unsound(error.to_string()))?));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let weights =
            ::safetensors::serialize(tensors, Some(metadata)).map_err(|error| unsound(error.to_string()))?;
        atomic::write(&weights_path, &weights)?;
        let config_path = folder.join(CONFIG_FILE);
        let config = saved.config.to_json();
        let config =
            config.map_err(|error| Error::Json { path: config_path.clone(), reason: error.to_string() })?;
        atomic::write(&config_path, config.as_bytes())?;
        Ok(())
    }

    /// What is stored, in the order of the values, under the names that PEFT gives it.
    fn matrices(&self) -> Vec<Matrix> {
        let mut matrices = Vec::with_capacity(3 * self.slots.len() + 3);
        let mut push = |name: String, shape: &[usize], place: &Range<usize>| {
            matrices.push(Matrix { name, shape: shape.to_vec(), place: place.clone() });
        };
        for slot in &self.slots {
            let module = slot.module.path(slot.layer);
            push(format!("{PREFIX}{module}.lora_A.weight"), &[slot.rank, slot.inputs], &slot.a);
            push(format!("{PREFIX}{module}.lora_B.weight"), &[slot.outputs, slot.rank], &slot.b);
            if let Some(magnitude) = &slot.magnitude {
                push(format!("{PREFIX}{module}.lora_magnitude_vector"), &[slot.outputs], magnitude);
            }
        }
        for (name, place) in [(Model::EMBEDDING, &self.embedding), (Model::HEAD, &self.head)] {
            if let Some(place) = place {
                push(format!("{PREFIX}{name}"), &[place.len() / self.hidden_size, self.hidden_size], place);
            }
        }
        if let Some(place) = &self.score {
            push(format!("{PREFIX}{SCORE}"), &[1, place.len()], place);
        }
        matrices
    }
}

/// One stored matrix, or vector.
struct Matrix {
    name: String,
    shape: Vec<usize>,
    /// Where it lies in the values.
    place: Range<usize>,
}

/// Checks names and shapes before memory is taken for what the configuration asks for.
fn check(matrices: &[Matrix], file: &SafetensorsFile) -> Result<()> {
    let path = file.path();
    let mut placed = HashSet::new();
    for matrix in matrices {
        let got = file.shape(&matrix.name).ok_or_else(|| file.missing(&matrix.name))?;
        if got != matrix.shape {
            let (expected, got) = (matrix.shape.clone(), got.to_vec());
            let (path, name) = (path.to_owned(), matrix.name.clone());
            return Err(Error::TensorShape { path, name, expected, got });
        }
        placed.insert(&matrix.name);
    }
    match file.names().into_iter().find(|name| !placed.contains(name)) {
        Some(name) => Err(Error::UnexpectedTensor { path: path.to_owned(), name }),
        None => Ok(()),
    }
}

fn find(folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(Error::NotAModel {
        path: folder.to_owned(),
        found: format!("there is no {name} in it"),
        hint: format!("give an adapter folder as PEFT writes it, with {CONFIG_FILE} and {WEIGHTS_FILE}"),
    })
}
