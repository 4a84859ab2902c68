//! How a fresh adapter begins, by PEFT's names.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::LoraConfig;

/// PEFT's name for PiSSA, and what stands between it and a number of iterations.
const PISSA: &str = "pissa";
const ITERATIONS: &str = "pissa_niter_";
/// As many iterations as are allowed: far more than the principal part needs, while a weight cannot be left half done.
const MOST_ITERATIONS: usize = 500;

/// What `init_lora_weights` says of a fresh adapter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InitLoraWeights {
    /// `true`: A is drawn and B is zero, so that the adapter changes nothing yet.
    #[default]
    Drawn,
    /// `pissa`: A and B begin as the principal part of each weight (Meng et al. 2024, PiSSA, equations 2 to 4), which is
    /// taken out of the weight.
    Pissa,
    /// `pissa_niter_N`: the same, the principal part found by N iterations of a subspace (Halko et al. 2011,
    /// algorithm 4.4), quickly and almost.
    PissaIterated(usize),
}

impl InitLoraWeights {
    /// The names, for messages.
    pub(super) const NAMES: &str =
        "true, pissa, or pissa_niter_N with a number of iterations up to 500, such as pissa_niter_16";

    /// What a configuration says, if it is one of these.
    pub(super) fn of(config: &LoraConfig) -> Option<Self> {
        match &config.init_lora_weights {
            Value::Bool(true) => Some(Self::Drawn),
            Value::String(name) => name.parse().ok().filter(|start| *start != Self::Drawn),
            _ => None,
        }
    }
}

impl fmt::Display for InitLoraWeights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn => formatter.write_str("true"),
            Self::Pissa => formatter.write_str(PISSA),
            Self::PissaIterated(iterations) => write!(formatter, "{ITERATIONS}{iterations}"),
        }
    }
}

impl FromStr for InitLoraWeights {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let iterations = name.strip_prefix(ITERATIONS).map(str::parse);
        match (name, iterations) {
            ("true", _) => Ok(Self::Drawn),
            (PISSA, _) => Ok(Self::Pissa),
            (_, Some(Ok(iterations @ ..=MOST_ITERATIONS))) => Ok(Self::PissaIterated(iterations)),
            _ => Err(format!("give one of: {}", Self::NAMES)),
        }
    }
}

impl From<InitLoraWeights> for Value {
    /// As `adapter_config.json` holds it.
    fn from(start: InitLoraWeights) -> Self {
        match start {
            InitLoraWeights::Drawn => true.into(),
            pissa => pissa.to_string().into(),
        }
    }
}

impl Serialize for InitLoraWeights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::from(*self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let iterated = [16, MOST_ITERATIONS].map(InitLoraWeights::PissaIterated);
        for start in [InitLoraWeights::Drawn, InitLoraWeights::Pissa].into_iter().chain(iterated) {
            assert_eq!(start.to_string().parse(), Ok(start));
            let config = LoraConfig { init_lora_weights: start.into(), ..LoraConfig::default() };
            assert_eq!(InitLoraWeights::of(&config), Some(start));
        }
        for name in
            ["", "True", "pissa_niter_", "pissa_niter_-1", "pissa_niter_1.5", "pissa_niter_501", "gaussian"]
        {
            assert!(name.parse::<InitLoraWeights>().is_err(), "{name}");
        }
        assert!(InitLoraWeights::NAMES.contains(&format!("up to {MOST_ITERATIONS}")));
    }
}
