//! How the weights of a model's layers are held where that is not as they are multiplied: the settings.

use clap::ArgAction;
use collimate_engine::{CpuOptions, Quantisation};
use serde::{Deserialize, Serialize};

/// Whether the layers' weights are quantised, and how.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(rename_all = "snake_case")]
pub struct Quantising {
    /// Hold the weights of the layers in few bits and multiply them in --dtype, as QLoRA does: nf4 or fp4 (4 bits, in
    /// blocks of 64), int8 (each output with a scale), or gguf: the blocks of a GGUF file as they are.
    #[arg(long, value_name = "NAME", default_value_t = Quantisation::None)]
    pub quantise: Quantisation,
    /// Of 4 bits, quantise the blocks' scales in their turn.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub bnb_4bit_use_double_quant: bool,
}

impl Default for Quantising {
    fn default() -> Self {
        Self { quantise: Quantisation::None, bnb_4bit_use_double_quant: true }
    }
}

impl Quantising {
    /// The engine's options with them.
    pub(crate) fn with(&self, options: CpuOptions) -> CpuOptions {
        let (quantise, double_quant) = (self.quantise, self.bnb_4bit_use_double_quant);
        CpuOptions { quantise, double_quant, ..options }
    }
}
