//! How the weights of a model's layers are held where that is not as they are multiplied: the settings.

use clap::ArgAction;
use collimate_engine::{CpuOptions, Quantisation};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Error;

/// Whether the layers' weights are quantised, and how.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(rename_all = "snake_case")]
pub struct Quantising {
    /// Hold the weights of the layers in few bits and multiply them in --dtype, as QLoRA does: nf4 or fp4 (4 bits, in
    /// blocks of 64), int8 (each output with a scale), or gguf: the blocks of a GGUF file as they are.
    #[arg(long, value_name = "NAME", default_value_t = Quantisation::None)]
    pub quantise: Quantisation,
    /// Quantise the scales of nf4's or fp4's blocks in their turn; true, if not given.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    pub bnb_4bit_use_double_quant: Option<bool>,
}

impl Quantising {
    /// The engine's options with them. Errors: those of [`Quantising::double_quant`].
    pub(crate) fn with(&self, options: CpuOptions) -> Result<CpuOptions, Error> {
        Ok(CpuOptions { quantise: self.quantise, double_quant: self.double_quant()?, ..options })
    }

    /// As a manifest keeps them: nothing where nothing is quantised.
    pub(crate) fn described(&self) -> Map<String, Value> {
        let fields = [
            ("quantise", json!(self.quantise)),
            ("bnb_4bit_use_double_quant", json!(self.double_quant().unwrap_or_default())),
        ];
        let quantised = self.quantise != Quantisation::None;
        fields.into_iter().filter(|_| quantised).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Whether the blocks' scales are quantised.
    ///
    /// # Errors
    /// [`Error::Unheeded`] where it is said of weights that have no blocks of 4 bits.
    pub(crate) fn double_quant(&self) -> Result<bool, Error> {
        match (self.quantise, self.bnb_4bit_use_double_quant) {
            (Quantisation::Nf4 | Quantisation::Fp4, said) => Ok(said.unwrap_or(true)),
            (_, None) => Ok(false),
            (quantise, Some(_)) => Err(Error::Unheeded {
                what: "quantise".to_owned(),
                choice: quantise.name(),
                by: "--quantise nf4",
                settings: vec!["bnb_4bit_use_double_quant"],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_quantised_where_there_are_blocks_of_4_bits() {
        for quantise in Quantisation::ALL {
            let said = |said| Quantising { quantise, bnb_4bit_use_double_quant: said }.double_quant().ok();
            let four_bit = matches!(quantise, Quantisation::Nf4 | Quantisation::Fp4);
            let expected =
                if four_bit { [Some(true), Some(true), Some(false)] } else { [Some(false), None, None] };
            assert_eq!([None, Some(true), Some(false)].map(said), expected, "{quantise}");
        }
    }
}
