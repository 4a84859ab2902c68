//! Which modules an adapter stands beside, by PEFT's rules (`peft.tuners.tuners_utils`).

use std::collections::BTreeSet;

use fancy_regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::config::LoraConfig;
use crate::config::DecoderConfig;
use crate::conventions::HEAD_NORMS;
use crate::error::{Error, Result, nearest};
use crate::module::Module;

/// PEFT's word for every linear layer but the head.
const ALL_LINEAR: &str = "all-linear";

/// Steps that a regular expression may take on one module name: no useful one comes near, no hostile one hangs.
const STEP_LIMIT: usize = 100_000;

/// Modules outside of [`Module`] that PEFT would try to adapt if a target matched them.
const OTHER_MODULES: [&str; 6] =
    ["model", "model.embed_tokens", "model.layers", "model.norm", "lm_head", "score"];

/// The same within a decoder layer, beside its norms.
const OTHER_LAYER_PARTS: [&str; 3] = ["self_attn", "mlp", "mlp.act_fn"];

/// The value of `target_modules` or `exclude_modules`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// A regular expression over the full module name, or `all-linear`.
    Pattern(String),
    /// Names, each of them the end of a module's full name: `q_proj`, `layers.0.self_attn.q_proj`.
    Names(Vec<String>),
}

/// One value, or a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore<T> {
    /// A value by itself.
    One(T),
    /// A list.
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    /// The values.
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::More(values) => values,
        }
    }
}

/// `layers_to_transform` and `layers_pattern`, ready to be asked.
pub(super) struct LayerFilter {
    layers: BTreeSet<usize>,
    /// What stands before a layer's number; any name where there is none.
    patterns: Vec<PythonRegex>,
}

impl LayerFilter {
    pub(super) fn new(layers: &[usize], patterns: &[String]) -> Result<Self> {
        let compile = |pattern: &String| {
            PythonRegex::new("layers_pattern", pattern, &format!(r"\A(?:|.*?\.)(?:{pattern})\.\d+\."))
        };
        let layers = layers.iter().copied().collect();
        Ok(Self { layers, patterns: patterns.iter().map(compile).collect::<Result<_>>()? })
    }

    /// Whether a layer with a module of this full name is chosen.
    fn contains(&self, layer: usize, path: &str) -> Result<bool> {
        let mut counted = self.patterns.is_empty();
        for pattern in &self.patterns {
            counted |= pattern.matches(path)?;
        }
        Ok(counted && self.layers.contains(&layer))
    }
}

impl Targets {
    /// Whether this is a regular expression.
    pub(super) fn is_pattern(&self) -> bool {
        matches!(self, Self::Pattern(_)) && !self.is_all_linear()
    }

    /// Whether this is `all-linear`, in any case of letters, as PEFT has it.
    pub fn is_all_linear(&self) -> bool {
        matches!(self, Self::Pattern(pattern) if pattern.eq_ignore_ascii_case(ALL_LINEAR))
    }

    fn matcher(&self, setting: &str) -> Result<Matcher<'_>> {
        match self {
            Self::Names(names) => Ok(Matcher::Names(names)),
            Self::Pattern(_) if self.is_all_linear() => Ok(Matcher::AllLinear),
            // Python's re.fullmatch.
            Self::Pattern(pattern) => {
                Ok(Matcher::Pattern(PythonRegex::new(setting, pattern, &format!(r"\A(?:{pattern})\z"))?))
            }
        }
    }
}

/// What a configuration says of the modules to adapt, ready to be asked.
pub(super) struct Selection<'a> {
    config: &'a LoraConfig,
    targets: Matcher<'a>,
    excluded: Option<Matcher<'a>>,
    layers: Option<LayerFilter>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(config: &'a LoraConfig, targets: &'a Targets) -> Result<Self> {
        let excluded = config.exclude_modules.as_ref();
        Ok(Self {
            config,
            targets: targets.matcher("target_modules")?,
            excluded: excluded.map(|excluded| excluded.matcher("exclude_modules")).transpose()?,
            layers: config.layer_filter()?,
        })
    }

    /// The chosen modules of a decoder, ordered by layer and module; never empty.
    pub(super) fn choose(&self, decoder: &DecoderConfig) -> Result<Vec<(usize, Module)>> {
        let mut chosen = Vec::new();
        let head_norms = HEAD_NORMS.into_iter().filter(|_| decoder.qk_norm);
        let norms: Vec<&str> = decoder.sublayer_norms.names().all().chain(head_norms).collect();
        for layer in 0..decoder.num_hidden_layers {
            for module in Module::ALL {
                let path = module.path(layer);
                if self.contains(&path)? && self.is_in_layers(layer, &path)? {
                    chosen.push((layer, module));
                }
            }
            for part in OTHER_LAYER_PARTS.iter().chain(&norms) {
                self.refuse(&format!("model.layers.{layer}.{part}"))?;
            }
        }
        for other in OTHER_MODULES {
            self.refuse(other)?;
        }
        if chosen.is_empty() {
            return Err(target_error("it matches no module of the model".to_owned()));
        }
        Ok(chosen)
    }

    fn is_in_layers(&self, layer: usize, path: &str) -> Result<bool> {
        self.layers.as_ref().map_or(Ok(true), |layers| layers.contains(layer, path))
    }

    fn contains(&self, path: &str) -> Result<bool> {
        if self.config.is_within_saved(path) {
            return Ok(false);
        }
        if let Some(excluded) = &self.excluded
            && excluded.matches(path)?
        {
            return Ok(false);
        }
        self.targets.matches(path)
    }

    /// What a target matches must be adapted: leaving it out in silence would make another adapter than PEFT's.
    fn refuse(&self, path: &str) -> Result<()> {
        if !matches!(self.targets, Matcher::AllLinear) && self.contains(path)? {
            return Err(target_error(format!("it matches `{path}`, which cannot be adapted")));
        }
        Ok(())
    }

    /// Checks that each name of a list stands for some module, and each number for one of so many layers: PEFT passes
    /// over a misspelt one in silence.
    pub(super) fn check_names(&self, chosen: &[(usize, Module)], layers: usize) -> Result<()> {
        let wanted = self.layers.iter().flat_map(|filter| &filter.layers);
        if let Some(layer) = wanted.copied().find(|&layer| layer >= layers) {
            let reason =
                format!("`layers_to_transform` asks for layer {layer}; the model has 0 to {}", layers - 1);
            return Err(target_error(reason));
        }
        let Matcher::Names(names) = self.targets else { return Ok(()) };
        let paths: Vec<_> = chosen.iter().map(|(layer, module)| module.path(*layer)).collect();
        for name in names {
            if !paths.iter().any(|path| name_matches(name, path)) {
                let hint = suggestion(name, Module::ALL.map(Module::name));
                return Err(target_error(format!("`{name}` matches no module of the model{hint}")));
            }
        }
        Ok(())
    }
}

enum Matcher<'a> {
    AllLinear,
    Names(&'a [String]),
    Pattern(PythonRegex),
}

impl Matcher<'_> {
    fn matches(&self, path: &str) -> Result<bool> {
        match self {
            Self::AllLinear => Ok(true),
            Self::Names(names) => Ok(names.iter().any(|name| name_matches(name, path))),
            Self::Pattern(pattern) => pattern.matches(path),
        }
    }
}

fn name_matches(name: &str, path: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The name that may have been meant, in words; nothing where none is near.
fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn target_error(reason: String) -> Error {
    Error::Target { reason, known: Module::names() }
}

/// A user's regular expression within one of PEFT's.
pub(super) struct PythonRegex {
    setting: String,
    pattern: String,
    regex: Regex,
}

impl PythonRegex {
    /// `pattern` is what the user wrote in `setting`; `whole` is what PEFT makes of it.
    fn new(setting: &str, pattern: &str, whole: &str) -> Result<Self> {
        let build = |text| {
            let regex = RegexBuilder::new(text).backtrack_limit(STEP_LIMIT).build();
            regex.map_err(|error| pattern_error(setting, pattern, error))
        };
        // Alone first: `a)|(b` is sound only between PEFT's parentheses, and places in messages must be the user's.
        build(pattern)?;
        let regex = build(whole)?;
        Ok(Self { setting: setting.to_owned(), pattern: pattern.to_owned(), regex })
    }

    /// A key of `rank_pattern` or `alpha_pattern` (`peft.utils.other.get_pattern_key`).
    pub(super) fn key(setting: &str, key: &str) -> Result<Self> {
        Self::new(setting, key, &format!(r"\A(.*\.)?({key})$"))
    }

    /// That it fits none of the modules of these names.
    pub(super) fn fits_nothing<'a>(&self, names: impl Iterator<Item = &'a str>) -> Error {
        let hint = suggestion(&self.pattern, names);
        pattern_error(&self.setting, &self.pattern, format!("it fits no module that is adapted{hint}"))
    }

    pub(super) fn matches(&self, path: &str) -> Result<bool> {
        let matched = self.regex.is_match(path);
        matched.map_err(|error| pattern_error(&self.setting, &self.pattern, error))
    }
}

fn pattern_error(setting: &str, pattern: &str, reason: impl ToString) -> Error {
    Error::Pattern { setting: setting.to_owned(), pattern: pattern.to_owned(), reason: reason.to_string() }
}
