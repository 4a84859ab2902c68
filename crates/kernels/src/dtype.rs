//! The types in which fixed factors are held and multiplied, by their names in Hugging Face's libraries.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The type of the elements of fixed factors; sums are always in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Single precision.
    #[default]
    Float32,
    /// The upper half of single precision: half the memory, and on machines that multiply it twice the speed.
    Bfloat16,
}

impl Dtype {
    /// All types.
    pub const ALL: [Self; 2] = [Self::Float32, Self::Bfloat16];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// The type itself where this machine can multiply it, else [`Dtype::Float32`].
    pub fn supported(self) -> Self {
        match self {
            Self::Bfloat16 if !crate::gemm::multiplies_bfloat16() => Self::Float32,
            other => other,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.name() == text);
        found.ok_or_else(|| {
            format!("no type of this name; there are {}", Self::ALL.map(Self::name).join(" and "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        let error = "bf16".parse::<Dtype>().unwrap_err();
        assert_eq!(error, "no type of this name; there are float32 and bfloat16");
    }
}
