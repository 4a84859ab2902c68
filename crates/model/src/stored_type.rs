//! The types in which weights are stored in full, by their names in Hugging Face's libraries.

use std::fmt;
use std::str::FromStr;

use ::safetensors::Dtype;
use half::{bf16, f16};

/// The type in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoredType {
    /// Every bit as it is computed with.
    #[default]
    F32,
    /// The upper half of f32, rounded to the nearest, ties to even.
    Bf16,
    /// Half precision, rounded to the nearest, ties to even; beyond 65,504 there is nothing but infinity.
    F16,
}

impl StoredType {
    /// All types.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// PyTorch's name, as in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Replaces `out` by the stored form of `values`.
    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes())),
        }
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for StoredType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|stored| stored.name() == text).ok_or_else(|| {
            format!("no type of this name; there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for stored in StoredType::ALL {
            assert_eq!(stored.to_string().parse(), Ok(stored));
        }
        let refusal = "bf16".parse::<StoredType>().unwrap_err();
        assert_eq!(refusal, "no type of this name; there are float32, bfloat16, float16");
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_ties_to_even() {
        let mut bytes = Vec::new();
        // Halfway between two neighbours, once above the even one and once below, and beyond the largest.
        StoredType::F16.encode(&[1.0 + 2f32.powi(-11), 1.0 + 3.0 * 2f32.powi(-11), 65_520.0], &mut bytes);
        assert_eq!(bytes, [0x00, 0x3c, 0x02, 0x3c, 0x00, 0x7c]);
        StoredType::Bf16.encode(&[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)], &mut bytes);
        assert_eq!(bytes, [0x80, 0x3f, 0x82, 0x3f]);
    }
}
