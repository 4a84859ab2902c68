//! An adapter's two files, `adapter_config.json` and `adapter_model.safetensors`, to the letter of PEFT.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use collimate_run::atomic;

use super::{Lora, LoraConfig, LoraSlot, Strictness, lay_out};
use crate::config::DecoderConfig;
use crate::error::{Error, Result};
use crate::safetensors::SafetensorsFile;

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

impl Lora {
    /// Reads an adapter folder that PEFT or [`Lora::save`] wrote.
    ///
    /// Errors: missing or damaged files; settings that are not supported; a tensor that is missing, has
    /// another shape than the model asks for, or has no place in it.
    pub fn load(folder: &Path, decoder: &DecoderConfig) -> Result<Self> {
        let config = LoraConfig::read(&find(folder, CONFIG_FILE)?)?;
        let slots = lay_out(&config, decoder, Strictness::SomeNameMatches)?;
        let file = SafetensorsFile::open(&find(folder, WEIGHTS_FILE)?)?;
        check(&slots, &file)?;
        let mut values = Vec::with_capacity(slots.last().map_or(0, |slot| slot.b.end));
        for slot in &slots {
            for matrix in matrices(slot) {
                file.read(&matrix.name, &mut values)?;
            }
        }
        Ok(Self { config, slots, values })
    }

    /// Writes the adapter into `folder`, which is made if need be, so that PEFT opens it. Weights are f32.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|source| collimate_run::Error::write(folder, source))?;
        let weights_path = folder.join(WEIGHTS_FILE);
        let unsound = |reason: String| Error::Safetensors { path: weights_path.clone(), reason };
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut tensors = Vec::with_capacity(2 * self.slots.len());
        for slot in &self.slots {
            for (matrix, range) in matrices(slot).into_iter().zip([&slot.a, &slot.b]) {
                let bytes = &bytes[4 * range.start..4 * range.end];
                let view = TensorView::new(Dtype::F32, matrix.shape.to_vec(), bytes);
                tensors.push((matrix.name, view.map_err(|error| unsound(error.to_string()))?));
            }
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let weights =
            ::safetensors::serialize(tensors, Some(metadata)).map_err(|error| unsound(error.to_string()))?;
        atomic::write(&weights_path, &weights)?;
        let config_path = folder.join(CONFIG_FILE);
        let config = self.config.to_json();
        let config =
            config.map_err(|error| Error::Json { path: config_path.clone(), reason: error.to_string() })?;
        atomic::write(&config_path, config.as_bytes())?;
        Ok(())
    }
}

/// One stored matrix.
struct Matrix {
    name: String,
    shape: [usize; 2],
}

/// A slot's A and B under the names that PEFT gives them.
fn matrices(slot: &LoraSlot) -> [Matrix; 2] {
    let module = slot.module.path(slot.layer);
    let name = |letter: char| format!("base_model.model.{module}.lora_{letter}.weight");
    [
        Matrix { name: name('A'), shape: [slot.rank, slot.inputs] },
        Matrix { name: name('B'), shape: [slot.outputs, slot.rank] },
    ]
}

/// Checks names and shapes before memory is taken for what the configuration asks for.
fn check(slots: &[LoraSlot], file: &SafetensorsFile) -> Result<()> {
    let path = file.path();
    let mut placed = HashSet::new();
    for matrix in slots.iter().flat_map(matrices) {
        let got = file.shape(&matrix.name).ok_or_else(|| file.missing(&matrix.name))?;
        if got != matrix.shape {
            let (expected, got) = (matrix.shape.to_vec(), got.to_vec());
            return Err(Error::TensorShape { path: path.to_owned(), name: matrix.name, expected, got });
        }
        placed.insert(matrix.name);
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
