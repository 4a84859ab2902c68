//! `rank_pattern` and `alpha_pattern`: ranks and alphas of particular modules, read, asked and written as PEFT does.

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::config::LoraConfig;
use super::targets::PythonRegex;
use crate::error::Result;
use crate::module::Module;

/// `rank_pattern` and `alpha_pattern`, ready to be asked.
pub(super) struct Patterns<'a> {
    config: &'a LoraConfig,
    ranks: Vec<(PythonRegex, usize)>,
    alphas: Vec<(PythonRegex, f64)>,
}

impl<'a> Patterns<'a> {
    pub(super) fn new(config: &'a LoraConfig) -> Result<Self> {
        Ok(Self {
            config,
            ranks: compile("rank_pattern", &config.rank_pattern)?,
            alphas: compile("alpha_pattern", &config.alpha_pattern)?,
        })
    }

    /// Checks that each key fits one of the modules that are adapted: PEFT passes over a misspelt one in silence.
    pub(super) fn check_keys(&self, chosen: &[(usize, Module)]) -> Result<()> {
        let keys = self.ranks.iter().map(|(key, _)| key).chain(self.alphas.iter().map(|(key, _)| key));
        for key in keys {
            let mut fits = false;
            for (layer, module) in chosen {
                fits = fits || key.matches(&module.path(*layer))?;
            }
            if !fits {
                return Err(key.fits_nothing(chosen.iter().map(|(_, module)| module.name())));
            }
        }
        Ok(())
    }

    /// The rank of the module of this full name, and what the product of its matrices is multiplied by.
    pub(super) fn rank_and_scale(&self, path: &str) -> Result<(usize, f32)> {
        let rank = first_match(&self.ranks, path)?.unwrap_or(self.config.r);
        let alpha = first_match(&self.alphas, path)?.unwrap_or(self.config.lora_alpha);
        let divisor = if self.config.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok((rank, (alpha / divisor) as f32))
    }
}

fn compile<T: Copy>(setting: &str, pattern: &IndexMap<String, T>) -> Result<Vec<(PythonRegex, T)>> {
    pattern.iter().map(|(key, value)| Ok((PythonRegex::key(setting, key)?, *value))).collect()
}

fn first_match<T: Copy>(patterns: &[(PythonRegex, T)], path: &str) -> Result<Option<T>> {
    for (pattern, value) in patterns {
        if pattern.matches(path)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

/// Some versions of PEFT write null for a pattern that is not set.
pub(super) fn null_as_empty<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// PEFT's alphas are whole numbers, and some readers insist on it.
#[derive(Serialize)]
#[serde(untagged)]
enum Alpha {
    Whole(i64),
    Broken(f64),
}

impl From<f64> for Alpha {
    fn from(alpha: f64) -> Self {
        let whole = alpha.fract() == 0.0 && alpha.abs() < 1e15;
        if whole { Self::Whole(alpha as i64) } else { Self::Broken(alpha) }
    }
}

pub(super) fn whole_if_whole<S: Serializer>(alpha: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Alpha::from(*alpha).serialize(serializer)
}

pub(super) fn each_whole_if_whole<S: Serializer>(
    alphas: &IndexMap<String, f64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(alphas.iter().map(|(key, alpha)| (key, Alpha::from(*alpha))))
}
