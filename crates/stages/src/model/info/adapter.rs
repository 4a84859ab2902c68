//! What an adapter is: its configuration, and the parameters in its file.

use std::path::{Path, PathBuf};

use collimate_model::{LoraConfig, adapter_tensors};
use serde::Serialize;

use super::{Stored, by_type};
use crate::Error;
use crate::train::Named;

/// An adapter.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterInfo {
    /// Where it lies.
    pub path: PathBuf,
    /// Parameters in its file.
    pub parameters: u64,
    /// Modules that it stands beside.
    pub modules: u64,
    /// The types of its tensors.
    pub stored: Vec<Stored>,
    /// What `adapter_config.json` says.
    pub config: LoraConfig,
}

impl AdapterInfo {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let config = LoraConfig::read(&path.join(Named::ADAPTER_CONFIG))?;
        let tensors = adapter_tensors(path)?;
        let parameters = tensors.iter().map(|tensor| tensor.parameters).sum();
        let modules = tensors.iter().filter(|tensor| tensor.name.contains(".lora_A.")).count() as u64;
        let stored = by_type(&tensors);
        Ok(Self { path: path.to_owned(), parameters, modules, stored, config })
    }
}
