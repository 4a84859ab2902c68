//! The rotary tables of a decoder: one for most layers, and one for those that have a rotary embedding of their own.

use collimate_kernels::rotary::RotaryTable;
use collimate_model::{DecoderConfig, Rope, Rotary};

/// Tables for the same positions.
#[derive(Debug)]
pub(super) struct RotaryTables {
    main: RotaryTable,
    local: Option<RotaryTable>,
}

impl RotaryTables {
    /// Tables for positions 0 to `positions`.
    pub fn new(config: &DecoderConfig, positions: usize) -> Self {
        let table = |rope: &Rope| {
            let (frequencies, factor) = rope.frequencies(config.head_dim);
            RotaryTable::new(&frequencies, factor, positions)
        };
        Self { main: table(&config.rope), local: config.local_rope.as_ref().map(table) }
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.main.positions()
    }

    /// The table by which a layer turns queries and keys, if it does.
    pub fn of(&self, rotary: Rotary) -> Option<&RotaryTable> {
        match rotary {
            Rotary::None => None,
            Rotary::Main => Some(&self.main),
            Rotary::Local => self.local.as_ref(),
        }
    }
}
