//! Rotary position embedding: its base and the ways to stretch it over longer texts.
//!
//! The frequencies are those of transformers' `modeling_rope_utils`, computed in f32 as there.

use std::f64::consts::PI;
use std::path::Path;

use serde_json::{Map, Value};

use crate::config_file::{ConfigFile, unsupported};
use crate::error::{Error, Result};

/// The rotary position embedding (Su et al. 2021, "RoFormer").
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

/// The ways to stretch the frequencies that are supported.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies are divided by the factor (Chen et al. 2023, "Position Interpolation").
    Linear {
        /// How many times longer texts may be.
        factor: f64,
    },
    /// Low frequencies are divided, high ones kept, those between interpolated (Llama 3.1).
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Texts per wavelength above which a frequency counts as low.
        low_freq_factor: f64,
        /// Texts per wavelength below which a frequency counts as high.
        high_freq_factor: f64,
        /// Length of the texts that the model was first trained on, in tokens.
        original_max_position_embeddings: f64,
    },
    /// Peng et al. 2023, "YaRN", equations 17 to 23.
    Yarn(Yarn),
    /// Each frequency is divided by its own number; so GGUF files write `Llama3`.
    Divisors(Vec<f32>),
}

/// The settings of YaRN, defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// How many times longer texts may be.
    pub factor: f64,
    /// What cos and sin are multiplied by.
    pub attention_factor: f64,
    /// Turns within an original text above which a frequency is kept.
    pub beta_fast: f64,
    /// Turns within an original text below which a frequency is divided.
    pub beta_slow: f64,
    /// Length of the texts that the model was first trained on, in tokens.
    pub original_max_position_embeddings: f64,
    /// Whether the bounds of the ramp are rounded to whole dimensions.
    pub truncate: bool,
}

impl Rope {
    /// The angle per position of each pair of dimensions, `[head_dim / 2]`, and the attention factor that
    /// multiplies cos and sin.
    pub fn frequencies(&self, head_dim: usize) -> (Vec<f32>, f32) {
        let wavelengths: Vec<f32> = (0..head_dim / 2)
            .map(|pair| f64::from((2 * pair) as f32 / head_dim as f32))
            .map(|exponent| self.theta.powf(exponent) as f32)
            .collect();
        let inverse = wavelengths.iter().map(|wavelength| 1.0 / wavelength);
        match &self.scaling {
            RopeScaling::None => (inverse.collect(), 1.0),
            RopeScaling::Linear { factor } => {
                (inverse.map(|frequency| frequency / *factor as f32).collect(), 1.0)
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: length,
            } => (inverse.map(|frequency| llama3(frequency, *factor, (*low, *high), *length)).collect(), 1.0),
            RopeScaling::Yarn(yarn) => {
                (yarn.frequencies(&wavelengths, self.theta, head_dim), yarn.attention_factor as f32)
            }
            RopeScaling::Divisors(divisors) => {
                (inverse.zip(divisors).map(|(frequency, divisor)| frequency / divisor).collect(), 1.0)
            }
        }
    }

    /// Reads both spellings: `rope_parameters` of transformers 5, `rope_theta` with `rope_scaling` before it.
    pub(crate) fn from_config(
        file: &ConfigFile,
        default_theta: f64,
        max_positions: usize,
        path: &Path,
    ) -> Result<Self> {
        let empty = Map::new();
        let filled = |map: &&Map<String, Value>| !map.is_empty();
        let map = file.rope_scaling.as_ref().filter(filled).or(file.rope_parameters.as_ref());
        let parameters = Parameters { map: map.unwrap_or(&empty), path };
        let theta = parameters.number("rope_theta")?.or(file.rope_theta).unwrap_or(default_theta);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(parameters.wrong("rope_theta", "a number above 0", &theta.to_string()));
        }
        if let Some(divisors) = &file.rope_divisors {
            return Ok(Self { theta, scaling: RopeScaling::Divisors(divisors.clone()) });
        }
        let original = match file.original_max_position_embeddings {
            Some(length) => length as f64,
            None => parameters.number("original_max_position_embeddings")?.unwrap_or(max_positions as f64),
        };
        Ok(Self { theta, scaling: parameters.scaling(original, max_positions)? })
    }
}

/// The fields of `rope_parameters` or `rope_scaling`.
struct Parameters<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
}

impl Parameters<'_> {
    fn scaling(&self, original: f64, max_positions: usize) -> Result<RopeScaling> {
        if let Some(factor) = self.number("partial_rotary_factor")?.filter(|factor| *factor != 1.0) {
            let hint = "the rotary embedding must cover whole heads";
            return Err(unsupported(self.path, "partial_rotary_factor", factor, hint));
        }
        if let Some((layer_type, _)) = self.map.iter().find(|(_, value)| value.is_object()) {
            let hint = "all layers must share one rotary embedding";
            return Err(unsupported(self.path, "rope_parameters", format!("set for {layer_type}"), hint));
        }
        let kind = self.map.get("rope_type").or_else(|| self.map.get("type"));
        match kind.map_or(Some("default"), Value::as_str) {
            Some("default" | "none") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: self.factor("factor")? }),
            Some("llama3") => self.llama3(original),
            Some("yarn") => self.yarn(original, max_positions),
            other => {
                let value = other.map_or_else(|| format!("{kind:?}"), str::to_owned);
                let hint = "supported kinds: default, linear, llama3, yarn";
                Err(unsupported(self.path, "rope_type", value, hint))
            }
        }
    }

    fn llama3(&self, original: f64) -> Result<RopeScaling> {
        let (low, high) = (self.factor("low_freq_factor")?, self.factor("high_freq_factor")?);
        if low >= high {
            return Err(self.wrong("low_freq_factor", &format!("below {high}"), &low.to_string()));
        }
        Ok(RopeScaling::Llama3 {
            factor: self.factor("factor")?,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        })
    }

    fn yarn(&self, original: f64, max_positions: usize) -> Result<RopeScaling> {
        let factor = self.number("factor")?.unwrap_or(max_positions as f64 / original);
        if !(factor.is_finite() && factor > 0.0) {
            return Err(self.wrong("factor", "a number above 0", &factor.to_string()));
        }
        let nonzero = |name| Ok::<_, Error>(self.number(name)?.filter(|number| *number != 0.0));
        let attention_factor =
            match (self.number("attention_factor")?, nonzero("mscale")?, nonzero("mscale_all_dim")?) {
                (Some(attention_factor), _, _) => attention_factor,
                (None, Some(mscale), Some(all)) => magnitude(factor, mscale) / magnitude(factor, all),
                (None, _, _) => magnitude(factor, 1.0),
            };
        Ok(RopeScaling::Yarn(Yarn {
            factor,
            attention_factor,
            beta_fast: nonzero("beta_fast")?.unwrap_or(32.0),
            beta_slow: nonzero("beta_slow")?.unwrap_or(1.0),
            original_max_position_embeddings: original,
            truncate: self.map.get("truncate").and_then(Value::as_bool).unwrap_or(true),
        }))
    }

    /// A number that must be there and above 0.
    fn factor(&self, name: &str) -> Result<f64> {
        match self.number(name)? {
            Some(number) if number > 0.0 => Ok(number),
            Some(number) => Err(self.wrong(name, "a number above 0", &number.to_string())),
            None => Err(self.wrong(name, "a number", "missing")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(name, "a number", &value.to_string())),
            },
        }
    }

    fn wrong(&self, field: &str, expected: &str, got: &str) -> Error {
        Error::Field {
            path: self.path.to_owned(),
            field: field.to_owned(),
            expected: expected.to_owned(),
            got: got.to_owned(),
        }
    }
}

fn llama3(frequency: f32, factor: f64, (low, high): (f64, f64), length: f64) -> f32 {
    let wavelength = (2.0 * PI) as f32 / frequency;
    if wavelength < (length / high) as f32 {
        return frequency;
    }
    if wavelength > (length / low) as f32 {
        return frequency / factor as f32;
    }
    let smooth = (length as f32 / wavelength - low as f32) / (high - low) as f32;
    (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
}

/// YaRN's growth of attention with the stretch.
fn magnitude(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}

impl Yarn {
    fn frequencies(&self, wavelengths: &[f32], theta: f64, head_dim: usize) -> Vec<f32> {
        let (low, high) = self.ramp(theta, head_dim);
        let width = if low == high { 0.001 } else { high - low };
        let factor = self.factor as f32;
        let stretch = |(pair, wavelength): (usize, &f32)| {
            let interpolated = ((pair as f32 - low as f32) / width as f32).clamp(0.0, 1.0);
            let kept = 1.0 - interpolated;
            1.0 / (factor * wavelength) * (1.0 - kept) + 1.0 / wavelength * kept
        };
        wavelengths.iter().enumerate().map(stretch).collect()
    }

    /// Between which pairs the frequencies pass from kept to divided.
    fn ramp(&self, theta: f64, head_dim: usize) -> (f64, f64) {
        let dimension = |turns: f64| {
            head_dim as f64 * (self.original_max_position_embeddings / (turns * 2.0 * PI)).ln()
                / (2.0 * theta.ln())
        };
        let (low, high) = (dimension(self.beta_fast), dimension(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        (low.max(0.0), high.min(head_dim as f64 - 1.0))
    }
}
