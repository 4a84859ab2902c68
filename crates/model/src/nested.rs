//! Models that read pictures too: the configuration of the part that reads and writes text, as that of a model of its
//! own.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config_file::ConfigFile;
use crate::error::Result;
use crate::family;
use crate::file::read_json;

/// Fields that stand outside and are said of the whole model.
const OF_THE_WHOLE: [&str; 7] = [
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "tie_word_embeddings",
    "quantization_config",
    "dtype",
    "torch_dtype",
];

/// What tells whether there is a part for text, before the rest is made sense of.
#[derive(Deserialize)]
struct Outline {
    text_config: Option<Map<String, Value>>,
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
}

/// The text's part of the `config.json` at `path`, with what is said of the whole; none where the model is nothing
/// else. Errors: a family that is not known.
pub(crate) fn text_part(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Outline { text_config, architectures, model_type } = read_json(path)?;
    let Some(text) = text_config else { return Ok(None) };
    let family = family::find(&ConfigFile { architectures, model_type, ..ConfigFile::default() }, path)?;
    let mut whole: Map<String, Value> = read_json(path)?;
    whole.retain(|name, _| OF_THE_WHOLE.contains(&name.as_str()));
    let sizes = family.text_sizes.iter().map(|(name, size)| ((*name).to_owned(), Value::from(*size)));
    let mut part: Map<String, Value> = sizes.collect();
    part.extend(text);
    part.extend(whole);
    part.insert("architectures".to_owned(), [family.architectures[0]].as_slice().into());
    part.insert("model_type".to_owned(), family.model_types[0].into());
    Ok(Some(part))
}
