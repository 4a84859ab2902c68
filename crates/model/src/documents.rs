//! `config.json` and `generation_config.json` of a model that is saved.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::DecoderConfig;
use crate::config_file::{CLASSIFIER, TEXT_ONLY, TEXT_ONLY_TYPE, WRITER, unsupported};
use crate::error::Result;
use crate::family;
use crate::file::{read_json, write_json};
use crate::model::Model;
use crate::nested;
use crate::output_heads::OutputHeads;
use crate::rope::RopeScaling;
use crate::stored_type::StoredType;

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";

/// The field for the weights' type, as transformers writes it now and as it did before.
const TYPE_FIELDS: [&str; 2] = ["dtype", "torch_dtype"];

/// How `bitsandbytes` and others have rounded the weights.
const QUANTISATION: &str = "quantization_config";

/// What a Hugging Face folder says of a model besides its weights and tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Documents {
    config: Map<String, Value>,
    generation: Option<Map<String, Value>>,
}

impl Documents {
    /// A folder's own files, with the type of the weights to be stored, without what is no text's; for a GGUF file a `config.json` that
    /// describes the same decoder.
    pub(crate) fn of(model: &Model, stored: StoredType) -> Result<Self> {
        let path = model.path();
        let (mut config, generation): (Map<_, _>, _) = match model.has_config_file() {
            false => (describe(model.config(), path)?, None),
            true => {
                let config = match nested::text_part(&path.join(CONFIG))? {
                    Some(part) => part,
                    None => read_json(&path.join(CONFIG))?,
                };
                (config, Some(path.join(GENERATION)).filter(|path| path.exists()))
            }
        };
        let generation = generation.map(|path| read_json(&path)).transpose()?;
        // Whatever the weights were, they are saved as floats.
        config.shift_remove(QUANTISATION);
        let classifier = model.config().output_heads == OutputHeads::Score;
        if classifier {
            describe_classifier(&mut config, family::of(model.config().family).architectures[0]);
        }
        let generation = generation.filter(|_| !classifier);
        if model.untied {
            config.insert("tie_word_embeddings".to_owned(), false.into());
        }
        if !TYPE_FIELDS.iter().any(|name| config.contains_key(*name)) {
            // The older name: every version reads it.
            config.insert(TYPE_FIELDS[1].to_owned(), Value::Null);
        }
        for name in TYPE_FIELDS {
            if let Some(field) = config.get_mut(name) {
                *field = stored.name().into();
            }
        }
        Ok(Self { config, generation })
    }

    /// Writes both, `config.json` last: a folder without it is no model yet.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        if let Some(generation) = &self.generation {
            write_json(&folder.join(GENERATION), generation)?;
        }
        write_json(&folder.join(CONFIG), &self.config)
    }
}

/// Turns the `config.json` of a model that writes into that of one that scores, as transformers writes it;
/// `architecture` is the model's where the file names none.
fn describe_classifier(config: &mut Map<String, Value>, architecture: &str) {
    let named = config.get("architectures").and_then(|names| names.get(0)).and_then(Value::as_str);
    let named = named.unwrap_or(architecture);
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let text_only = if model_type.ends_with(TEXT_ONLY_TYPE) { TEXT_ONLY } else { "" };
    let name = named.strip_suffix(WRITER).map(|name| format!("{name}{text_only}{CLASSIFIER}"));
    if let Some(name) = name {
        config.insert("architectures".to_owned(), json!([name]));
        config.insert("id2label".to_owned(), json!({"0": "LABEL_0"}));
        config.insert("label2id".to_owned(), json!({"LABEL_0": 0}));
    }
}

/// The `config.json` of a decoder, in the spelling that every version of transformers reads.
fn describe(decoder: &DecoderConfig, path: &Path) -> Result<Map<String, Value>> {
    let family = family::of(decoder.family);
    let eos = match decoder.eos_token_ids.as_slice() {
        [] => Value::Null,
        [id] => json!(id),
        ids => json!(ids),
    };
    let fields = json!({
        "architectures": [family.architectures[0]],
        "model_type": family.model_types[0],
        "attention_bias": decoder.qkv_bias,
        "bos_token_id": decoder.bos_token_id,
        "eos_token_id": eos,
        "head_dim": decoder.head_dim,
        "hidden_act": decoder.activation.name(),
        "hidden_size": decoder.hidden_size,
        "intermediate_size": decoder.intermediate_size,
        "max_position_embeddings": decoder.max_position_embeddings,
        "mlp_bias": decoder.mlp_bias,
        "num_attention_heads": decoder.num_attention_heads,
        "num_hidden_layers": decoder.num_hidden_layers,
        "num_key_value_heads": decoder.num_key_value_heads,
        "pad_token_id": decoder.pad_token_id,
        "rms_norm_eps": decoder.rms_norm_eps,
        "rope_scaling": rope_scaling(&decoder.rope.scaling, path)?,
        "rope_theta": decoder.rope.theta,
        "tie_word_embeddings": decoder.tie_word_embeddings,
        "use_cache": true,
        "vocab_size": decoder.vocab_size,
    });
    let mut fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
    (family.describe)(decoder, &mut fields);
    Ok(fields)
}

fn rope_scaling(scaling: &RopeScaling, path: &Path) -> Result<Value> {
    Ok(match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: original,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": *original as u64,
        }),
        RopeScaling::Yarn(yarn) => json!({
            "rope_type": "yarn",
            "factor": yarn.factor,
            "attention_factor": yarn.attention_factor,
            "beta_fast": yarn.beta_fast,
            "beta_slow": yarn.beta_slow,
            "original_max_position_embeddings": yarn.original_max_position_embeddings as u64,
            "truncate": yarn.truncate,
        }),
        RopeScaling::Divisors(_) => {
            let hint =
                "config.json has no place for them: take the model's Hugging Face folder to save it anew";
            return Err(unsupported(path, "rope_freqs.weight", "a list of divisors", hint));
        }
    })
}
