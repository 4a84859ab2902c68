//! A batch on the device: what all layers and both passes read of it.

use crate::ops::attention::{Piece, pieces};
use crate::rotary::{RotaryTables, RowAngles};
use candle_core::{DType, Device, Result, Tensor};
use collimate_engine::Batch;
use collimate_model::DecoderConfig;

/// Rows to be read from the final hidden states; none where a batch asks for none, since devices have no empty tensors.
pub(crate) type Rows = Option<Tensor>;

/// A packed batch.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The tokens, [rows].
    pub tokens: Tensor,
    pub angles: RowAngles,
    /// Attention's pieces for each window that a layer has.
    pieces: Vec<(Option<usize>, Vec<Piece>)>,
    /// Row and token of each target.
    pub target_rows: Rows,
    pub target_tokens: Rows,
    /// Row of each readout.
    pub readout_rows: Rows,
    /// Numbers of targets and of readouts.
    pub targets: usize,
    pub readouts: usize,
    /// 1 / temperature.
    pub sharpness: f64,
}

/// The positions of a batch's tokens.
pub(crate) fn positions(batch: &Batch) -> Vec<u32> {
    let of = |segment: &collimate_engine::Segment| segment.position..segment.position + segment.len;
    batch.segments.iter().flat_map(of).map(|position| position as u32).collect()
}

impl Packed {
    /// A batch that has tokens, on the device.
    pub fn new(
        batch: &Batch,
        config: &DecoderConfig,
        tables: &RotaryTables,
        device: &Device,
    ) -> Result<Self> {
        let upload = |rows: Vec<u32>| {
            let len = rows.len();
            if len == 0 { Ok(None) } else { Tensor::from_vec(rows, len, device).map(Some) }
        };
        let positions = Tensor::from_vec(positions(batch), batch.tokens.len(), device)?;
        let mut by_window: Vec<(Option<usize>, Vec<Piece>)> = Vec::new();
        for layer in &config.layer_attention {
            if !by_window.iter().any(|(window, _)| *window == layer.window) {
                let pieces = pieces(&batch.segments, layer.window, (DType::F32, device))?;
                by_window.push((layer.window, pieces));
            }
        }
        Ok(Self {
            tokens: Tensor::from_slice(&batch.tokens, batch.tokens.len(), device)?,
            angles: tables.angles(&positions)?,
            pieces: by_window,
            target_rows: upload(batch.targets.iter().map(|target| target.row).collect())?,
            target_tokens: upload(batch.targets.iter().map(|target| target.token).collect())?,
            readout_rows: upload(batch.readouts.clone())?,
            targets: batch.targets.len(),
            readouts: batch.readouts.len(),
            sharpness: f64::from(1.0 / batch.temperature),
        })
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.tokens.elem_count()
    }

    /// Attention's pieces in a layer with this window.
    pub fn pieces(&self, window: Option<usize>) -> &[Piece] {
        self.pieces.iter().find(|(own, _)| *own == window).map_or(&[], |(_, pieces)| pieces)
    }
}
