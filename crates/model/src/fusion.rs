//! Weights that a family stores under other names, or several as one matrix: found there by rows, and put together again
//! when a model is saved.

use std::collections::HashMap;
use std::ops::Range;

use crate::config::DecoderConfig;
use crate::error::Result;
use crate::family::{self, Fused};
use crate::module::Module;
use crate::safetensors_writer::WeightSource;

/// A weight's place in a stored matrix.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The stored matrix's name.
    pub(crate) matrix: String,
    /// The rows that are the weight's.
    rows: Range<usize>,
    /// The rows of the whole matrix.
    matrix_rows: usize,
    /// The weight's shape.
    pub(crate) shape: Vec<usize>,
}

impl Piece {
    /// Whether the matrix is the weight alone, under another name.
    pub(crate) fn is_whole(&self) -> bool {
        self.rows == (0..self.matrix_rows)
    }

    /// The bytes that are the weight's, among those of the whole matrix.
    pub(crate) fn range(&self, matrix: Range<u64>) -> Range<u64> {
        let row = (matrix.end - matrix.start) / self.matrix_rows as u64;
        matrix.start + self.rows.start as u64 * row..matrix.start + self.rows.end as u64 * row
    }
}

/// The weights of a model that lie under other names, alone or with others in one matrix, by canonical name.
#[derive(Debug, Default)]
pub(crate) struct Pieces(HashMap<String, Piece>);

impl Pieces {
    /// Those of such a model that are there; `shape` tells of a stored tensor.
    pub(crate) fn new<'a>(config: &DecoderConfig, shape: impl Fn(&str) -> Option<&'a [usize]>) -> Self {
        let there = |piece: &Piece| {
            let stored = [&[piece.matrix_rows], &piece.shape[1..]].concat();
            shape(&piece.matrix) == Some(&stored)
        };
        let all = all_pieces(config).chain(nested(config));
        Self(all.filter(|(_, piece)| there(piece)).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Piece> {
        self.0.get(name)
    }
}

fn all_pieces(config: &DecoderConfig) -> impl Iterator<Item = (String, Piece)> {
    let fused = family::of(config.family).fused.iter();
    fused.flat_map(|fused| (0..config.num_hidden_layers).flat_map(|layer| pieces(config, fused, layer)))
}

/// The weights in one layer's fused matrix, from top to bottom.
fn pieces(config: &DecoderConfig, fused: &Fused, layer: usize) -> Vec<(String, Piece)> {
    let matrix_rows = fused.modules.iter().map(|module| module.dimensions(config).1).sum();
    let mut start = 0;
    let piece = |module: &Module| {
        let (inputs, outputs) = module.dimensions(config);
        let rows = start..start + outputs;
        start = rows.end;
        let matrix = format!("model.layers.{layer}.{}.weight", fused.name);
        let name = format!("{}.weight", module.path(layer));
        (name, Piece { matrix, rows, matrix_rows, shape: vec![outputs, inputs] })
    };
    fused.modules.iter().map(piece).collect()
}

/// The names that weights may have as a part of a larger model's.
fn nested(config: &DecoderConfig) -> impl Iterator<Item = (String, Piece)> {
    let prefixes = family::of(config.family).nested_prefixes;
    // Nothing is listed for the families that have none.
    let weights = if prefixes.is_empty() { Vec::new() } else { config.weights() };
    weights.into_iter().flat_map(move |(name, shape)| {
        prefixes.iter().filter_map(move |prefix| {
            let matrix = format!("{prefix}{}", name.strip_prefix("model.")?);
            let (rows, matrix_rows) = (0..shape[0], shape[0]);
            Some((name.clone(), Piece { matrix, rows, matrix_rows, shape: shape.clone() }))
        })
    })
}

/// A tensor's name and shape.
type Tensor = (String, Vec<usize>);

/// The same tensors as the model's family stores them.
pub(crate) fn as_stored(config: &DecoderConfig, tensors: Vec<Tensor>) -> Vec<Tensor> {
    let pieces: HashMap<_, _> = all_pieces(config).collect();
    let stored = |(name, shape): Tensor| match pieces.get(&name) {
        None => Some((name, shape)),
        Some(piece) if piece.rows.start == 0 => {
            Some((piece.matrix.clone(), vec![piece.matrix_rows, piece.shape[1]]))
        }
        Some(_) => None,
    };
    tensors.into_iter().filter_map(stored).collect()
}

/// Gives weights as a family stores them, made of those of canonical names.
pub(crate) struct AsStored<'a, S> {
    source: &'a S,
    config: &'a DecoderConfig,
}

impl<'a, S: WeightSource> AsStored<'a, S> {
    pub(crate) fn new(source: &'a S, config: &'a DecoderConfig) -> Self {
        Self { source, config }
    }
}

impl<S: WeightSource> WeightSource for AsStored<'_, S> {
    fn weight<'b>(&'b self, name: &str, buffer: &'b mut Vec<f32>) -> Result<&'b [f32]> {
        let parts = parts(name, self.config);
        if parts.len() == 1 {
            return self.source.weight(name, buffer);
        }
        buffer.clear();
        let mut part = Vec::new();
        for name in parts {
            buffer.extend_from_slice(self.source.weight(&name, &mut part)?);
        }
        Ok(buffer)
    }
}

/// The canonical names of what is in a matrix as the model's family stores it, from top to bottom.
pub(crate) fn parts(name: &str, config: &DecoderConfig) -> Vec<String> {
    let fused = family::of(config.family).fused;
    let found =
        fused.iter().find_map(|fused| Some((fused, name.strip_suffix(".weight")?.strip_suffix(fused.name)?)));
    let Some((fused, prefix)) = found else { return vec![name.to_owned()] };
    let part = |module: &Module| format!("{prefix}{}.{}.weight", module.parent(), module.name());
    fused.modules.iter().map(part).collect()
}
