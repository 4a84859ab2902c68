//! What files hold, from their headers alone: the type and size of each tensor.

use std::path::Path;

use crate::elements::Elements;
use crate::error::Result;
use crate::lora::adapter_weights;
use crate::model::Model;
use crate::stored_type::StoredType;

/// A tensor as a file stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// The type of its numbers, by its name in Hugging Face's libraries or in ggml.
    pub dtype: &'static str,
    /// How many numbers it has.
    pub parameters: u64,
    /// Bytes in the file.
    pub bytes: u64,
}

impl StoredTensor {
    fn new(name: String, shape: &[usize], elements: Elements) -> Self {
        let parameters = shape.iter().product::<usize>() as u64;
        let dtype = match elements {
            Elements::Blocks(kind) => kind.name(),
            other => other.stored_type().map_or("", StoredType::name),
        };
        let bytes = parameters / elements.unit_len() as u64 * elements.unit_bytes() as u64;
        Self { name, dtype, parameters, bytes }
    }
}

impl Model {
    /// The tensors of the model's weights as they are stored, in the order of [`crate::DecoderConfig::weights`].
    pub fn stored_tensors(&self) -> Vec<StoredTensor> {
        let stored = |(name, shape): (String, Vec<usize>)| {
            if let (Some(packing), &[outputs, inputs]) = (self.matrix_packing(&name), shape.as_slice()) {
                let (parameters, bytes) = (outputs * inputs, packing.bytes([outputs, inputs]) as u64);
                return Some(StoredTensor {
                    name,
                    dtype: packing.name(),
                    parameters: parameters as u64,
                    bytes,
                });
            }
            let elements = self.elements(&name)?;
            Some(StoredTensor::new(name, &shape, elements))
        };
        self.config().weights().into_iter().filter_map(stored).collect()
    }
}

/// The tensors of an adapter's folder. Errors: no such file, a damaged one, a type that is not known.
pub fn adapter_tensors(folder: &Path) -> Result<Vec<StoredTensor>> {
    let file = adapter_weights(folder)?;
    let stored = |name: String| {
        let (shape, elements) = file.described(&name)?;
        Ok(StoredTensor::new(name, shape, elements))
    };
    file.names().into_iter().map(stored).collect()
}
