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
    /// Integers of 8 bits, in every output channel 32 with one scale; a little over a quarter of the memory. The other
    /// factor is rounded as it comes, in the same groups. Not for training.
    Int8,
    /// The blocks of a GGUF file as they are; the other factor as with [`Dtype::Int8`]. Not for training.
    Gguf,
}

impl Dtype {
    /// All types.
    pub const ALL: [Self; 4] = [Self::Float32, Self::Bfloat16, Self::Int8, Self::Gguf];

    /// The types in which gradients can be formed too.
    pub const TRAINABLE: [Self; 2] = [Self::Float32, Self::Bfloat16];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Int8 => "int8",
            Self::Gguf => "gguf",
        }
    }

    /// The type of this name, if it is one of [`Dtype::TRAINABLE`].
    pub fn trainable(name: &str) -> Result<Self, String> {
        match name.parse::<Self>() {
            Ok(dtype) if !Self::TRAINABLE.contains(&dtype) => {
                let names = Self::TRAINABLE.map(Self::name).join(" or ");
                Err(format!("{dtype} cannot be trained in; take {names}"))
            }
            _ => Self::named(name, &Self::TRAINABLE),
        }
    }

    /// The type itself where this machine can multiply it, else [`Dtype::Float32`]; integers it always can.
    pub fn supported(self) -> Self {
        match self {
            Self::Bfloat16 if !crate::gemm::multiplies_bfloat16() => Self::Float32,
            other => other,
        }
    }

    fn named(name: &str, among: &[Self]) -> Result<Self, String> {
        among.iter().copied().find(|dtype| dtype.name() == name).ok_or_else(|| {
            let names: Vec<_> = among.iter().map(|dtype| dtype.name()).collect();
            format!("no type of this name; there are {}", names.join(", "))
        })
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
        Self::named(text, &Self::ALL)
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
        assert_eq!(error, "no type of this name; there are float32, bfloat16, int8, gguf");
        assert_eq!(Dtype::trainable("bfloat16"), Ok(Dtype::Bfloat16));
        let errors = ["int8", "bf16"].map(|name| Dtype::trainable(name).unwrap_err());
        assert_eq!(errors[0], "int8 cannot be trained in; take float32 or bfloat16");
        assert_eq!(errors[1], "no type of this name; there are float32, bfloat16");
    }
}
