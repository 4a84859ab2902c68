//! What the engine on the CPU is asked for, held against what it is: types, quantised weights.

use super::{CpuEngine, CpuOptions};
use crate::check::check_weights;
use crate::{Error, Result};
use collimate_kernels::{Dtype, Quantisation};
use collimate_model::{FullWeights, Model};

/// Checks that the weights can be had in the type that is asked for.
pub(super) fn check_dtype(model: &Model, options: CpuOptions) -> Result<()> {
    let CpuOptions { dtype, training, quantise, .. } = options;
    if training && !Dtype::TRAINABLE.contains(&dtype) {
        return Err(Error::NotTrainable { dtype });
    }
    if quantise != Quantisation::None && !Dtype::TRAINABLE.contains(&dtype) {
        return Err(Error::TwiceQuantised { quantise, dtype });
    }
    let stored = dtype == Dtype::Gguf || quantise == Quantisation::Gguf;
    if stored && model.gguf_metadata().is_none() {
        return Err(Error::NoBlocks { path: model.path().to_owned() });
    }
    Ok(())
}

impl CpuEngine {
    /// Checks that weights can be trained here, and were laid out for this model.
    pub(super) fn check_weights(&self, weights: &FullWeights) -> Result<()> {
        if self.quantise != Quantisation::None {
            return Err(Error::QuantisedWhole { quantise: self.quantise });
        }
        check_weights(&self.layout, weights)
    }
}
