//! `config.json` as Hugging Face writes it, before a family has made sense of it.

use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::config::DecoderConfig;
use crate::conventions::{Activation, LayerAttention, SublayerNorms};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::output_heads::OutputHeads;
use crate::rope::Rope;

/// The end of an architecture's name where texts are scored; where text is written.
pub(crate) const CLASSIFIER: &str = "ForSequenceClassification";
pub(crate) const WRITER: &str = "ForCausalLM";

/// The fields of a decoder's `config.json`; a GGUF file's metadata is brought into the same shape.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ConfigFile {
    pub(crate) model_type: Option<String>,
    pub(crate) architectures: Option<Vec<String>>,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    pub(crate) rms_norm_eps: Option<f64>,
    pub(crate) hidden_act: Option<String>,
    pub(crate) max_position_embeddings: Option<usize>,
    pub(crate) original_max_position_embeddings: Option<usize>,
    pub(crate) rope_theta: Option<f64>,
    pub(crate) rope_scaling: Option<Map<String, Value>>,
    pub(crate) rope_parameters: Option<Map<String, Value>>,
    pub(crate) partial_rotary_factor: Option<f64>,
    pub(crate) tie_word_embeddings: Option<bool>,
    pub(crate) attention_bias: Option<bool>,
    pub(crate) mlp_bias: Option<bool>,
    /// None: the field is absent; transformers then takes the family's default.
    #[serde(default, deserialize_with = "present")]
    pub(crate) sliding_window: Option<Option<u64>>,
    pub(crate) use_sliding_window: Option<bool>,
    pub(crate) quantization_config: Option<Map<String, Value>>,
    /// The classes of a classifier; transformers takes two where the field is absent.
    pub(crate) id2label: Option<Map<String, Value>>,
    pub(crate) bos_token_id: Option<TokenIds>,
    pub(crate) eos_token_id: Option<TokenIds>,
    pub(crate) pad_token_id: Option<TokenIds>,
    /// The divisors of a GGUF file's `rope_freqs.weight`; `config.json` has no such field.
    #[serde(skip)]
    pub(crate) rope_divisors: Option<Vec<f32>>,
}

/// One token id or several. Some configurations write -1 for none.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenIds {
    One(i64),
    Many(Vec<i64>),
}

impl TokenIds {
    fn valid(ids: Option<&Self>) -> Vec<u32> {
        let ids = match ids {
            None => &[],
            Some(Self::One(id)) => std::slice::from_ref(id),
            Some(Self::Many(ids)) => ids.as_slice(),
        };
        ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect()
    }
}

/// Tells a field that is null from one that is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Where families differ although their configuration files look alike.
pub(crate) struct Habits {
    pub(crate) family: Family,
    pub(crate) qkv_bias: bool,
    pub(crate) o_bias: bool,
    pub(crate) mlp_bias: bool,
    pub(crate) max_position_embeddings: usize,
}

impl ConfigFile {
    /// Builds the decoder's description; fields that are absent take `habits`' or transformers' defaults. What only
    /// some families have is left out.
    pub(crate) fn decoder(&self, habits: Habits, path: &Path) -> Result<DecoderConfig> {
        self.refuse_unsupported(path)?;
        let max_position_embeddings = self.max_position_embeddings.unwrap_or(habits.max_position_embeddings);
        let mut config = DecoderConfig {
            family: habits.family,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_width(path)?,
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-6) as f32,
            rope: Rope::from_config(self, max_position_embeddings, path)?,
            local_rope: None,
            layer_attention: Vec::new(),
            attention_scale: None,
            attention_softcap: None,
            logit_softcap: None,
            embedding_scale: None,
            activation: Activation::Silu,
            qk_norm: false,
            sublayer_norms: SublayerNorms::Before,
            unit_offset_norms: false,
            output_heads: self.output_heads(),
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            qkv_bias: habits.qkv_bias,
            o_bias: habits.o_bias,
            mlp_bias: habits.mlp_bias,
            max_position_embeddings,
            bos_token_id: TokenIds::valid(self.bos_token_id.as_ref()).first().copied(),
            eos_token_ids: TokenIds::valid(self.eos_token_id.as_ref()),
            pad_token_id: TokenIds::valid(self.pad_token_id.as_ref()).first().copied(),
        };
        config.check_sizes(path)?;
        // Only now: a file may claim any number of layers.
        config.layer_attention = vec![LayerAttention::default(); config.num_hidden_layers];
        Ok(config)
    }

    /// The architecture, a classifier's as that of its model that writes.
    pub(crate) fn architecture(&self) -> Option<(String, OutputHeads)> {
        let architecture = self.architectures.as_ref()?.first()?;
        Some(match architecture.strip_suffix(CLASSIFIER) {
            Some(name) => (format!("{name}{WRITER}"), OutputHeads::Score),
            None => (architecture.clone(), OutputHeads::Tokens),
        })
    }

    fn output_heads(&self) -> OutputHeads {
        self.architecture().map(|(_, heads)| heads).unwrap_or_default()
    }

    fn head_width(&self, path: &Path) -> Result<usize> {
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        match self.head_dim {
            Some(width) => Ok(width),
            None if heads > 0 && hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => Err(Error::Field {
                path: path.to_owned(),
                field: "num_attention_heads".to_owned(),
                expected: format!("a divisor of hidden_size = {hidden}, as there is no head_dim"),
                got: heads.to_string(),
            }),
        }
    }

    fn refuse_unsupported(&self, path: &Path) -> Result<()> {
        let activation = self.hidden_act.as_deref().unwrap_or("silu");
        if activation != "silu" {
            return Err(unsupported(path, "hidden_act", activation, "the activation must be `silu`"));
        }
        if let Some(factor) = self.partial_rotary_factor.filter(|factor| *factor != 1.0) {
            let hint = "the rotary embedding must cover whole heads";
            return Err(unsupported(path, "partial_rotary_factor", factor, hint));
        }
        if let Some(quantization) = &self.quantization_config {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("set");
            let hint = "take the model's unquantised folder, or a GGUF file of it";
            return Err(unsupported(path, "quantization_config", method, hint));
        }
        let labels = self.id2label.as_ref().map_or(2, Map::len);
        if self.output_heads() == OutputHeads::Score && labels != 1 {
            return Err(unsupported(path, "num_labels", labels, "a reward model has one label"));
        }
        Ok(())
    }
}

/// The error for a setting that would change the mathematics.
pub(crate) fn unsupported(path: &Path, setting: &str, value: impl ToString, hint: &str) -> Error {
    Error::Unsupported {
        path: path.to_owned(),
        setting: setting.to_owned(),
        value: value.to_string(),
        hint: hint.to_owned(),
    }
}
