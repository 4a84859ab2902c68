//! How frozen matrices that serve training are quantised, by the names that settings use.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// How a frozen matrix is held; what it is multiplied in is a [`crate::Dtype`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantisation {
    /// As it is multiplied.
    #[default]
    None,
    /// 4 bits, quantiles of the normal distribution, in blocks of 64.
    Nf4,
    /// Floats of 4 bits, in blocks of 64.
    Fp4,
    /// 8 bits, every output with a scale.
    Int8,
    /// The blocks of a GGUF file as they are.
    Gguf,
}

impl Quantisation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Nf4, Self::Fp4, Self::Int8, Self::Gguf];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
            Self::Int8 => "int8",
            Self::Gguf => "gguf",
        }
    }
}

impl std::fmt::Display for Quantisation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Quantisation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no quantisation of this name; there are {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in Quantisation::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "4bit".parse::<Quantisation>().unwrap_err();
        assert_eq!(error, "no quantisation of this name; there are none, nf4, fp4, int8, gguf");
    }
}
