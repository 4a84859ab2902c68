//! The rotary tables of a decoder on its device: one for most layers, and one for those that have an embedding of their own.

use crate::ops::rotary::Angles;
use candle_core::{Device, Result, Tensor};
use collimate_kernels::rotary::RotaryTable;
use collimate_model::{DecoderConfig, Rope, Rotary};

/// Cosines and sines of positions from 0 on, [positions, half] each.
#[derive(Debug)]
struct Table {
    cos: Tensor,
    sin: Tensor,
}

/// Tables for the same positions.
#[derive(Debug)]
pub(crate) struct RotaryTables {
    main: Table,
    local: Option<Table>,
    positions: usize,
}

/// The angles of a batch's rows, by both tables.
#[derive(Debug)]
pub(crate) struct RowAngles {
    main: Angles,
    local: Option<Angles>,
}

impl RotaryTables {
    /// Tables for positions 0 to `positions`.
    pub fn new(config: &DecoderConfig, positions: usize, device: &Device) -> Result<Self> {
        let table = |rope: &Rope| Table::new(rope, config.head_dim, positions, device);
        let local = config.local_rope.as_ref().map(table).transpose()?;
        Ok(Self { main: table(&config.rope)?, local, positions })
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The angles of rows at these positions, [rows].
    pub fn angles(&self, positions: &Tensor) -> Result<RowAngles> {
        let local = self.local.as_ref().map(|table| table.angles(positions)).transpose()?;
        Ok(RowAngles { main: self.main.angles(positions)?, local })
    }
}

impl Table {
    fn new(rope: &Rope, head_dim: usize, positions: usize, device: &Device) -> Result<Self> {
        let (frequencies, factor) = rope.frequencies(head_dim);
        let table = RotaryTable::new(&frequencies, factor, positions);
        let upload = |values: &[f32]| Tensor::from_slice(values, (positions, frequencies.len()), device);
        Ok(Self { cos: upload(table.cosines())?, sin: upload(table.sines())? })
    }

    fn angles(&self, positions: &Tensor) -> Result<Angles> {
        let rows = |table: &Tensor| table.index_select(positions, 0)?.unsqueeze(1);
        Ok(Angles { cos: rows(&self.cos)?, sin: rows(&self.sin)? })
    }
}

impl RowAngles {
    /// The angles by which a layer turns queries and keys, if it does.
    pub fn of(&self, rotary: Rotary) -> Option<&Angles> {
        match rotary {
            Rotary::None => None,
            Rotary::Main => Some(&self.main),
            Rotary::Local => self.local.as_ref(),
        }
    }
}
