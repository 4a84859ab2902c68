//! Modules that read the same input: their weights lie one below the other, and are multiplied with it at once.

use collimate_model::{DecoderConfig, Module};
use std::ops::Range;

/// A linear layer of a decoder layer, or several with the same input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Queries, keys and values.
    Qkv,
    /// The output projection.
    Output,
    /// Gate and up.
    GateUp,
    /// Down.
    Down,
}

impl Group {
    /// The modules, in the order of their outputs.
    pub fn modules(self) -> &'static [Module] {
        match self {
            Self::Qkv => &[Module::Q, Module::K, Module::V],
            Self::Output => &[Module::O],
            Self::GateUp => &[Module::Gate, Module::Up],
            Self::Down => &[Module::Down],
        }
    }

    /// Outputs and inputs, the shape of the weights.
    pub fn shape(self, config: &DecoderConfig) -> [usize; 2] {
        let sizes = self.modules().iter().map(|module| module.dimensions(config));
        let (inputs, outputs) = sizes.fold((0, 0), |(_, sum), (inputs, outputs)| (inputs, sum + outputs));
        [outputs, inputs]
    }

    /// The columns of a module's outputs, if it is one of them.
    pub fn columns(self, module: Module, config: &DecoderConfig) -> Option<Range<usize>> {
        let mut end = 0;
        self.modules().iter().find_map(|&own| {
            let start = end;
            end += own.dimensions(config).1;
            (own == module).then_some(start..end)
        })
    }
}
