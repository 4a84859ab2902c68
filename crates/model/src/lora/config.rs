//! `adapter_config.json`, exactly as PEFT writes it (`peft.tuners.lora.config.LoraConfig`).

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::patterns::{Patterns, each_whole_if_whole, null_as_empty, whole_if_whole};
use super::targets::{LayerFilter, OneOrMore, Targets};
use crate::config_file::unsupported;
use crate::error::{Error, Result};
use crate::module::Module;

/// The version of PEFT whose file format is written.
const PEFT_VERSION: &str = "0.21.2";

/// A rank above this is a mistake: no model is that wide.
const RANK_LIMIT: usize = 1 << 16;

/// PEFT's tasks: writing text, and scoring it.
const WRITER: &str = "CAUSAL_LM";
const CLASSIFIER: &str = "SEQ_CLS";

/// The names of heads that PEFT trains and saves for a classifier; decoders have the first.
const SCORE_MODULES: [&str; 2] = ["score", "classifier"];

/// What else can be trained whole: the embedding, and the head that scores tokens.
const EMBEDDING_MODULE: &str = "embed_tokens";
const HEAD_MODULE: &str = "lm_head";

/// Fields of PEFT that say nothing about the mathematics, whatever their value.
const HARMLESS: [&str; 10] = [
    "auto_mapping",
    "inference_mode",
    "revision",
    "peft_version",
    "megatron_core",
    "qalora_group_size",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
];

/// Ways of initialising that leave the base model's weights alone, so that an adapter made so can be used.
const HARMLESS_INITIALISATIONS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// The configuration of a LoRA adapter (Hu et al. 2021) under PEFT's names.
///
/// Fields of PEFT that are not listed here are kept in `other` and written back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraConfig {
    /// The kind of adapter; always `LORA`.
    pub peft_type: String,
    /// `CAUSAL_LM` or nothing; `SEQ_CLS` for a reward model.
    pub task_type: Option<String>,
    /// The model that the adapter was made for, as its user named it.
    pub base_model_name_or_path: Option<String>,
    /// Rank of the two matrices.
    pub r: usize,
    /// The product of the matrices is multiplied by `lora_alpha / r`.
    #[serde(serialize_with = "whole_if_whole")]
    pub lora_alpha: f64,
    /// Probability that an input of the adapter is dropped in training.
    pub lora_dropout: f64,
    /// The modules to adapt: names, a regular expression over full names, or `all-linear`.
    pub target_modules: Option<Targets>,
    /// Modules left out although `target_modules` matches them.
    pub exclude_modules: Option<Targets>,
    /// Of the modules of a list, those of these layers alone are adapted; an empty list says nothing.
    pub layers_to_transform: Option<OneOrMore<usize>>,
    /// The names of the lists of layers that `layers_to_transform` counts in, such as `layers`.
    pub layers_pattern: Option<OneOrMore<String>>,
    /// Modules that are trained whole beside the matrices: `embed_tokens`, `lm_head`, and `score`, the scalar head.
    pub modules_to_save: Option<Vec<String>>,
    /// Which biases are trained; only `none` is supported.
    pub bias: String,
    /// Scale by `lora_alpha / √r` instead (Kalajdzievski 2023, rsLoRA).
    pub use_rslora: bool,
    /// Learn the length of each row of the weights by itself, and by the matrices its direction (Liu et al. 2024, DoRA).
    pub use_dora: bool,
    /// Ranks of particular modules, by name or regular expression; the first that matches counts.
    #[serde(deserialize_with = "null_as_empty")]
    pub rank_pattern: IndexMap<String, usize>,
    /// Alphas of particular modules, likewise.
    #[serde(deserialize_with = "null_as_empty", serialize_with = "each_whole_if_whole")]
    pub alpha_pattern: IndexMap<String, f64>,
    /// How A and B were initialised: true for Kaiming-uniform A and zero B.
    pub init_lora_weights: Value,
    /// All other fields, as found.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for LoraConfig {
    /// PEFT's defaults for a causal language model, with all fields that PEFT writes.
    fn default() -> Self {
        Self {
            peft_type: "LORA".to_owned(),
            task_type: Some(WRITER.to_owned()),
            base_model_name_or_path: None,
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: None,
            exclude_modules: None,
            layers_to_transform: None,
            layers_pattern: None,
            modules_to_save: None,
            bias: "none".to_owned(),
            use_rslora: false,
            use_dora: false,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
            init_lora_weights: Value::Bool(true),
            other: neutral_fields(),
        }
    }
}

/// The fields of PEFT beside ours, at their defaults in a saved adapter.
fn neutral_fields() -> Map<String, Value> {
    let null = [
        "alora_invocation_tokens",
        "arrow_config",
        "auto_mapping",
        "corda_config",
        "eva_config",
        "kasa_config",
        "layer_replication",
        "lora_ga_config",
        "megatron_config",
        "monteclora_config",
        "revision",
        "target_parameters",
        "trainable_token_indices",
        "use_bdlora",
        "velora_config",
    ];
    let off = ["ensure_weight_tying", "fan_in_fan_out", "lora_bias", "use_qalora"];
    let set = [
        ("inference_mode", Value::Bool(true)),
        ("loftq_config", Value::Object(Map::new())),
        ("megatron_core", "megatron.core".into()),
        ("peft_version", PEFT_VERSION.into()),
        ("qalora_group_size", 16.into()),
    ];
    let null = null.map(|name| (name, Value::Null));
    let off = off.map(|name| (name, Value::Bool(false)));
    null.into_iter().chain(off).chain(set).map(|(name, value)| (name.to_owned(), value)).collect()
}

impl LoraConfig {
    /// Reads `adapter_config.json` and refuses what changes the mathematics and is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        // A field that the file lacks is one that its PEFT did not know yet: it must not appear from nowhere.
        let mut config: Self = crate::file::read_json(path)?;
        config.other.shift_remove("runtime_config");
        config.check(path)?;
        config.check_initialisation(path)?;
        Ok(config)
    }

    /// The file's text: keys sorted, two spaces of indentation, as PEFT writes it.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let fields: BTreeMap<String, Value> = serde_json::from_value(serde_json::to_value(self)?)?;
        serde_json::to_string_pretty(&fields)
    }

    /// Puts the names of all linear layers in the place of `all-linear`, as PEFT does.
    pub(super) fn spell_out_targets(&mut self) {
        if self.target_modules.as_ref().is_some_and(Targets::is_all_linear) {
            self.target_modules =
                Some(Targets::Names(Module::ALL.map(|module| module.name().to_owned()).into()));
        }
    }

    /// Checks every field but how the matrices began; `path` is the file that holds them, for messages.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        let wrong = |field: &str, expected: &str, got: String| {
            let (field, expected) = (field.to_owned(), expected.to_owned());
            Err(Error::Field { path: path.to_owned(), field, expected, got })
        };
        if self.peft_type != "LORA" {
            return Err(unsupported(path, "peft_type", &self.peft_type, "the adapter must be a LORA"));
        }
        if let Some(task) = self.task_type.as_deref().filter(|task| ![WRITER, CLASSIFIER].contains(task)) {
            let hint = "the adapter must be for CAUSAL_LM, or for SEQ_CLS with one label";
            return Err(unsupported(path, "task_type", task, hint));
        }
        let whole = |module: &&String| {
            ![EMBEDDING_MODULE, HEAD_MODULE].contains(&module.as_str())
                && !SCORE_MODULES.contains(&module.as_str())
        };
        if let Some(module) = self.modules_to_save.iter().flatten().find(whole) {
            let hint = "only `embed_tokens`, `lm_head` and `score`, a scalar head, can be trained whole";
            return Err(unsupported(path, "modules_to_save", module, hint));
        }
        if self.is_classifier() && self.has_head() {
            let hint = "a reward model has no head for tokens";
            return Err(unsupported(path, "modules_to_save", HEAD_MODULE, hint));
        }
        if self.bias != "none" {
            return Err(unsupported(path, "bias", &self.bias, "biases cannot be trained: set it to `none`"));
        }
        let ranks = self.rank_pattern.values().map(|rank| ("rank_pattern", *rank));
        for (field, rank) in ranks.chain([("r", self.r)]) {
            if rank == 0 || rank > RANK_LIMIT {
                return wrong(field, &format!("between 1 and {RANK_LIMIT}"), rank.to_string());
            }
        }
        let alphas = self.alpha_pattern.values().map(|alpha| ("alpha_pattern", *alpha));
        let mut alphas = alphas.chain([("lora_alpha", self.lora_alpha)]);
        if let Some((field, alpha)) = alphas.find(|(_, alpha)| !alpha.is_finite()) {
            return wrong(field, "a number", alpha.to_string());
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return wrong("lora_dropout", "at least 0 and below 1", self.lora_dropout.to_string());
        }
        if self.target_modules.is_none() {
            return wrong(
                "target_modules",
                "a list of names, a regular expression or \"all-linear\"",
                "missing".into(),
            );
        }
        self.check_layers(path)?;
        self.check_other(path)
    }

    /// PEFT's own rules for layers that are chosen by number.
    fn check_layers(&self, path: &Path) -> Result<()> {
        let pattern = self.target_modules.as_ref().is_some_and(Targets::is_pattern);
        let layers = self.layers_to_transform.as_ref().map(|layers| ("layers_to_transform", json(layers)));
        let names = self.layers_pattern.as_ref().map(|names| ("layers_pattern", json(names)));
        if let (true, Some((field, value))) = (pattern, layers.as_ref().or(names.as_ref())) {
            let hint = "it goes with a list of `target_modules`: let the regular expression choose the layers instead";
            return Err(unsupported(path, field, value, hint));
        }
        if let (None, Some((field, value))) = (layers, names.filter(|(_, value)| !is_neutral(value))) {
            return Err(unsupported(path, field, &value, "it goes with `layers_to_transform`"));
        }
        Ok(())
    }

    /// Checks that the base model's weights were left alone.
    fn check_initialisation(&self, path: &Path) -> Result<()> {
        let harmless = match &self.init_lora_weights {
            Value::Bool(_) => true,
            Value::String(name) => HARMLESS_INITIALISATIONS.contains(&name.as_str()),
            _ => false,
        };
        if harmless {
            return Ok(());
        }
        let hint = "it changes the base model's weights: convert the adapter to a plain LoRA with PEFT first";
        Err(unsupported(path, "init_lora_weights", &self.init_lora_weights, hint))
    }

    fn check_other(&self, path: &Path) -> Result<()> {
        for (name, value) in &self.other {
            if !HARMLESS.contains(&name.as_str()) && !is_neutral(value) {
                let hint = "this setting is not supported: make the adapter without it";
                return Err(unsupported(path, name, value, hint));
            }
        }
        Ok(())
    }

    /// Whether the adapter makes a reward model of a model that writes.
    pub fn is_classifier(&self) -> bool {
        self.task_type.as_deref() == Some(CLASSIFIER)
    }

    /// Whether the adapter has a scalar head. PEFT saves one with every classifier, asked for or not.
    pub(super) fn has_score(&self) -> bool {
        self.is_classifier() || self.saves(SCORE_MODULES[0])
    }

    /// Whether the adapter has an embedding of its own.
    pub(super) fn has_embedding(&self) -> bool {
        self.saves(EMBEDDING_MODULE)
    }

    /// Whether the adapter has a head of its own that scores tokens.
    pub(super) fn has_head(&self) -> bool {
        self.saves(HEAD_MODULE)
    }

    fn saves(&self, module: &str) -> bool {
        self.modules_to_save.iter().flatten().any(|saved| saved == module)
    }

    /// Whether PEFT leaves a module alone because it is trained whole, or stands within one that is.
    pub(super) fn is_within_saved(&self, path: &str) -> bool {
        path.split('.').any(|part| self.saves(part))
    }

    /// Which layers are adapted, if that is said by their numbers.
    pub(super) fn layer_filter(&self) -> Result<Option<LayerFilter>> {
        let Some(layers) = self.layers_to_transform.as_ref().map(OneOrMore::as_slice) else {
            return Ok(None);
        };
        let patterns = self.layers_pattern.as_ref().map_or(&[][..], OneOrMore::as_slice);
        if layers.is_empty() { Ok(None) } else { LayerFilter::new(layers, patterns).map(Some) }
    }

    /// Makes this the configuration of an adapter with a scalar head.
    pub fn add_score(&mut self) {
        let modules = self.modules_to_save.get_or_insert_default();
        if !modules.iter().any(|module| module == SCORE_MODULES[0]) {
            modules.push(SCORE_MODULES[0].to_owned());
        }
    }

    /// Makes this the configuration of a reward model, or of an adapter that writes.
    pub(crate) fn set_classifier(&mut self, classifier: bool) {
        self.task_type = Some(if classifier { CLASSIFIER } else { WRITER }.to_owned());
    }

    /// Makes this the configuration of an adapter without a scalar head.
    pub(super) fn drop_score(&mut self) {
        if let Some(modules) = &mut self.modules_to_save {
            modules.retain(|module| !SCORE_MODULES.contains(&module.as_str()));
        }
        self.modules_to_save = self.modules_to_save.take().filter(|modules| !modules.is_empty());
        self.task_type = self.task_type.take().map(|_| WRITER.to_owned());
    }

    /// The rank and the scale of one module.
    pub(super) fn patterns(&self) -> Result<Patterns<'_>> {
        Patterns::new(self)
    }
}

/// A setting's value, for messages.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Null, false, empty: what a setting is that does nothing.
fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
