//! `config.json` as Hugging Face writes it, before a family has made sense of it.

use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::config::DecoderConfig;
use crate::conventions::{Activation, LayerAttention, Rotary, SublayerNorms};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::output_heads::OutputHeads;
use crate::rope::Rope;

/// The one kind of quantised folders that is read.
const BITSANDBYTES: &str = "bitsandbytes";

/// The end of an architecture's name where texts are scored; where text is written.
pub(crate) const CLASSIFIER: &str = "ForSequenceClassification";
pub(crate) const WRITER: &str = "ForCausalLM";

/// What stands before [`CLASSIFIER`] where the family's name alone means a model that reads pictures too.
pub(crate) const TEXT_ONLY: &str = "Text";

/// The end of such a family's model type.
pub(crate) const TEXT_ONLY_TYPE: &str = "_text";

/// The names in `layer_types`: of a layer that sees the whole text, and of one with a window.
pub(crate) const FULL: &str = "full_attention";
pub(crate) const SLIDING: &str = "sliding_attention";

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
    /// Gemma's name for `hidden_act`.
    pub(crate) hidden_activation: Option<String>,
    pub(crate) max_position_embeddings: Option<usize>,
    pub(crate) original_max_position_embeddings: Option<usize>,
    pub(crate) rope_theta: Option<f64>,
    /// The base of the layers with a window, as Gemma 3 was first written.
    pub(crate) rope_local_base_freq: Option<f64>,
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
    pub(crate) max_window_layers: Option<usize>,
    /// What each layer's attention reaches: `full_attention` or `sliding_attention`.
    pub(crate) layer_types: Option<Vec<String>>,
    pub(crate) sliding_window_pattern: Option<usize>,
    pub(crate) use_bidirectional_attention: Option<bool>,
    /// One a layer: 0 where queries and keys are not turned.
    pub(crate) no_rope_layers: Option<Vec<u8>>,
    pub(crate) no_rope_layer_interval: Option<usize>,
    pub(crate) query_pre_attn_scalar: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) attn_logit_softcapping: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) final_logit_softcapping: Option<Option<f64>>,
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
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Where families differ although their configuration files look alike.
pub(crate) struct Habits {
    pub(crate) family: Family,
    pub(crate) qkv_bias: bool,
    pub(crate) o_bias: bool,
    pub(crate) mlp_bias: bool,
    pub(crate) max_position_embeddings: usize,
    pub(crate) rope_theta: f64,
    pub(crate) rms_norm_eps: f64,
    pub(crate) tie_word_embeddings: bool,
    pub(crate) activation: Activation,
}

impl Habits {
    /// Those of Llama, for a family that has most of them too.
    pub(crate) fn like_llama(family: Family) -> Self {
        Self {
            family,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            max_position_embeddings: 2048,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            activation: Activation::Silu,
        }
    }
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
            rms_norm_eps: self.rms_norm_eps.unwrap_or(habits.rms_norm_eps) as f32,
            rope: Rope::from_config(self, habits.rope_theta, max_position_embeddings, path)?,
            local_rope: None,
            layer_attention: Vec::new(),
            attention_scale: None,
            attention_softcap: None,
            logit_softcap: None,
            embedding_scale: None,
            activation: self.activation(habits.activation, path)?,
            qk_norm: false,
            sublayer_norms: SublayerNorms::Before,
            unit_offset_norms: false,
            output_heads: self.output_heads(),
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(habits.tie_word_embeddings),
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

    /// What each layer's attention reaches: `layer_types` says which layers have the window, or else `slides`. Only
    /// after the number of layers was checked.
    pub(crate) fn windows(
        &self,
        window: Option<u64>,
        slides: impl Fn(usize) -> bool,
        path: &Path,
    ) -> Result<Vec<LayerAttention>> {
        let wrong = |field: &str, expected: String, got: String| {
            Err(Error::Field { path: path.to_owned(), field: field.to_owned(), expected, got })
        };
        let sliding: Vec<bool> = match &self.layer_types {
            None => (0..self.num_hidden_layers).map(slides).collect(),
            Some(types) => {
                if let Some(other) = types.iter().find(|name| *name != FULL && *name != SLIDING) {
                    let hint = format!("supported kinds: {FULL}, {SLIDING}");
                    return Err(unsupported(path, "layer_types", other, &hint));
                }
                types.iter().map(|name| name == SLIDING).collect()
            }
        };
        if sliding.len() != self.num_hidden_layers {
            let expected = format!("a list of {} kinds, one a layer", self.num_hidden_layers);
            return wrong("layer_types", expected, format!("one of {}", sliding.len()));
        }
        let window = window.map(|window| usize::try_from(window).unwrap_or(usize::MAX));
        if window.is_none() && sliding.contains(&true) {
            let expected = "a number of tokens, as some layers have a window";
            return wrong("sliding_window", expected.to_owned(), "none".to_owned());
        }
        let layer = |slides: bool| LayerAttention { window: window.filter(|_| slides), rotary: Rotary::Main };
        Ok(sliding.into_iter().map(layer).collect())
    }

    /// The kind of rotary embedding, in both spellings of the field.
    pub(crate) fn rope_type(&self) -> Option<&str> {
        let filled = |map: &&Map<String, Value>| !map.is_empty();
        let map = self.rope_scaling.as_ref().filter(filled).or(self.rope_parameters.as_ref())?;
        map.get("rope_type").or_else(|| map.get("type"))?.as_str()
    }

    fn activation(&self, default: Activation, path: &Path) -> Result<Activation> {
        let (field, name) = match &self.hidden_activation {
            Some(name) => ("hidden_activation", Some(name)),
            None => ("hidden_act", self.hidden_act.as_ref()),
        };
        let Some(name) = name else { return Ok(default) };
        let known = [Activation::Silu, Activation::GeluTanh];
        known.into_iter().find(|activation| activation.name() == name).ok_or_else(|| {
            let names = known.map(Activation::name).join(", ");
            unsupported(path, field, name, &format!("supported activations: {names}"))
        })
    }

    /// The architecture, a classifier's as that of its model that writes.
    pub(crate) fn architecture(&self) -> Option<(String, OutputHeads)> {
        let architecture = self.architectures.as_ref()?.first()?;
        Some(match architecture.strip_suffix(CLASSIFIER) {
            Some(name) => {
                let name = name.strip_suffix(TEXT_ONLY).unwrap_or(name);
                (format!("{name}{WRITER}"), OutputHeads::Score)
            }
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
        if self.use_bidirectional_attention == Some(true) {
            let hint = "a decoder's tokens see what stands before them, and nothing else";
            return Err(unsupported(path, "use_bidirectional_attention", true, hint));
        }
        if let Some(factor) = self.partial_rotary_factor.filter(|factor| *factor != 1.0) {
            let hint = "the rotary embedding must cover whole heads";
            return Err(unsupported(path, "partial_rotary_factor", factor, hint));
        }
        if let Some(quantization) = &self.quantization_config {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("set");
            if method != BITSANDBYTES {
                let hint = "take the model's unquantised folder, one that bitsandbytes quantised, or a GGUF file of it";
                return Err(unsupported(path, "quantization_config", method, hint));
            }
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
