//! Weights written as safetensors: one file, or shards with an index, tensor by tensor.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use ::safetensors::tensor::{Metadata, TensorInfo};
use collimate_run::atomic;
use serde_json::json;

use crate::error::{Error, Result};
use crate::file::write_json;
use crate::stored_type::StoredType;

/// The name of a model's only file of weights.
pub(crate) const SINGLE: &str = "model.safetensors";

/// The name of the index of several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Numbers turned into bytes at a time.
const PIECE: usize = 1 << 16;

/// The header's length is a multiple of this, filled up with spaces.
const ALIGNMENT: usize = 8;

/// How a model is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveOptions {
    /// The type of the weights.
    pub stored: StoredType,
    /// Most bytes of weights in one file; a larger tensor gets a file of its own.
    pub max_shard_size: usize,
}

impl Default for SaveOptions {
    /// f32, and files of five gigabytes, as `save_pretrained` of transformers 4 cuts them.
    fn default() -> Self {
        Self { stored: StoredType::F32, max_shard_size: 5_000_000_000 }
    }
}

/// What can give its weights one by one.
pub(crate) trait WeightSource {
    /// The numbers of the tensor of this name; `buffer` may hold them.
    fn weight<'a>(&'a self, name: &str, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]>;
}

/// A tensor's name and shape.
type Tensor = (String, Vec<usize>);

/// Writes the tensors into `folder`, each file whole or not at all; never holds more than one tensor.
///
/// A file of weights that was there before and would now be read in place of the new ones is removed.
pub(crate) fn write(
    folder: &Path,
    tensors: Vec<Tensor>,
    source: &impl WeightSource,
    options: SaveOptions,
) -> Result<()> {
    let mut shards = cut(tensors, options);
    if let [tensors] = shards.as_mut_slice() {
        write_file(&folder.join(SINGLE), tensors, source, options.stored)?;
        return remove(&folder.join(INDEX));
    }
    let count = shards.len();
    let (mut places, mut parameters) = (BTreeMap::new(), 0);
    for (number, tensors) in shards.iter_mut().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        write_file(&folder.join(&name), tensors, source, options.stored)?;
        parameters += tensors.iter().map(elements).sum::<usize>();
        places.extend(tensors.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
    }
    let sizes = json!({"total_parameters": parameters, "total_size": parameters * options.stored.bytes()});
    write_json(&folder.join(INDEX), &json!({"metadata": sizes, "weight_map": places}))?;
    remove(&folder.join(SINGLE))
}

/// Cuts the tensors, in their order, into files of at most the wanted size.
fn cut(tensors: Vec<Tensor>, options: SaveOptions) -> Vec<Vec<Tensor>> {
    let (mut shards, mut bytes) = (vec![Vec::new()], 0);
    for tensor in tensors {
        let more = elements(&tensor) * options.stored.bytes();
        if bytes > 0 && bytes + more > options.max_shard_size {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    shards
}

fn elements((_, shape): &Tensor) -> usize {
    shape.iter().product()
}

/// Writes one file, its tensors sorted by name.
fn write_file(
    path: &Path,
    tensors: &mut [Tensor],
    source: &impl WeightSource,
    stored: StoredType,
) -> Result<()> {
    tensors.sort();
    let header = header(path, tensors, stored)?;
    let mut file = atomic::writer(path)?;
    let failed = |reason| collimate_run::Error::write(path, reason);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(&header).map_err(failed)?;
    let (mut buffer, mut bytes) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let values = source.weight(&tensor.0, &mut buffer)?;
        if values.len() != elements(tensor) {
            let (name, expected) = tensor.clone();
            return Err(Error::TensorShape {
                path: path.to_owned(),
                name,
                expected,
                got: vec![values.len()],
            });
        }
        for piece in values.chunks(PIECE) {
            stored.encode(piece, &mut bytes);
            file.write_all(&bytes).map_err(failed)?;
        }
    }
    Ok(file.commit()?)
}

/// Names, shapes and places, as JSON.
fn header(path: &Path, tensors: &[Tensor], stored: StoredType) -> Result<Vec<u8>> {
    let unsound = |reason: String| Error::Safetensors { path: path.to_owned(), reason };
    let mut end = 0;
    let place = |tensor: &Tensor| {
        let start = end;
        end += elements(tensor) * stored.bytes();
        let (name, shape) = tensor.clone();
        (name, TensorInfo { dtype: stored.dtype(), shape, data_offsets: (start, end) })
    };
    let tensors = tensors.iter().map(place).collect();
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), tensors).map_err(|error| unsound(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| unsound(error.to_string()))?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    Ok(header)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(collimate_run::Error::write(path, error).into())
        }
        _ => Ok(()),
    }
}
