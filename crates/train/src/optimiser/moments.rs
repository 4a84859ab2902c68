//! AdamW's two moments, in f32 or in blocks of 8 bits.
//!
//! In 8 bits as bitsandbytes keeps them (Dettmers et al. 2022, <https://arxiv.org/abs/2110.02861>): every tensor by
//! itself, cut into blocks of 256 that share a scale, m on the signed dynamic map and v on the unsigned one; tensors of
//! fewer than 4096 elements, such as norms and biases, stay in f32, and so does an embedding, as transformers' trainer
//! has it: a row without a gradient would lose its v to rounding before its m, and jump.

use std::ops::Range;
use std::slice;

use collimate_kernels::quant::{Coded, DynamicMap};
use collimate_model::Tensors;
use rayon::prelude::*;

use super::Optim;

/// Elements that share a scale.
pub(super) const BLOCK: usize = 256;

/// Tensors of fewer elements stay in f32: `min_8bit_size` of bitsandbytes.
const SMALLEST: usize = 4096;

/// One moment of all parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moment {
    /// Of the tensors that are held in f32, one after the other.
    pub floats: Vec<f32>,
    /// Of the others: for each element its place on the map.
    pub codes: Vec<u8>,
    /// For each block what its codes are multiplied by.
    pub scales: Vec<f32>,
}

impl Moment {
    /// `len` elements from this code and this scale on, block by block.
    pub(super) fn blocks<'a>(
        &'a mut self,
        map: &'static DynamicMap,
        [code, scale]: [usize; 2],
        len: usize,
    ) -> impl IndexedParallelIterator<Item = Block<'a>> {
        let codes = self.codes[code..code + len].par_chunks_mut(BLOCK);
        let scales = self.scales[scale..scale + len.div_ceil(BLOCK)].par_iter_mut();
        codes.zip(scales).map(move |(codes, scale)| Block { map, codes, scale })
    }

    /// Elements held in f32, in codes, and the number of scales.
    pub fn lengths(&self) -> [usize; 3] {
        [self.floats.len(), self.codes.len(), self.scales.len()]
    }
}

/// One tensor: where its parameters lie, and where its moments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub parameters: Range<usize>,
    pub place: Place,
}

/// Where a tensor's moments lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// From this element of the floats on.
    Floats(usize),
    /// From this code, and from this scale on.
    Blocks([usize; 2]),
}

/// Gives the moments of each tensor a place; returns the tensors and the [`Moment::lengths`] of one moment.
pub(super) fn lay_out(form: Optim, tensors: &Tensors) -> (Vec<Tensor>, [usize; 3]) {
    let mut ends = [0; 3];
    let place = |parameters: &Range<usize>| {
        let len = parameters.len();
        let embedding = tensors.embedding.as_ref() == Some(parameters);
        let place = if form == Optim::AdamwTorch || len < SMALLEST || embedding {
            ends[0] += len;
            Place::Floats(ends[0] - len)
        } else {
            let start = [ends[1], ends[2]];
            ends[1] += len;
            ends[2] += len.div_ceil(BLOCK);
            Place::Blocks(start)
        };
        Tensor { parameters: parameters.clone(), place }
    };
    (tensors.places.iter().map(place).collect(), ends)
}

/// Zeros of these lengths.
pub(super) fn zeros([floats, codes, scales]: [usize; 3], map: &DynamicMap) -> Moment {
    Moment { floats: vec![0.0; floats], codes: vec![map.nearest(0.0); codes], scales: vec![0.0; scales] }
}

/// One block of a moment.
pub(super) struct Block<'a> {
    map: &'static DynamicMap,
    codes: &'a mut [u8],
    scale: &'a mut f32,
}

impl Block<'_> {
    /// Writes its numbers into `out`.
    pub fn read(&self, out: &mut [f32]) {
        self.map.dequantise((self.codes, slice::from_ref(self.scale)), BLOCK, out);
    }

    /// Takes over other numbers.
    pub fn write(self, values: &[f32]) {
        let out = Coded { codes: self.codes, absmax: slice::from_mut(self.scale) };
        self.map.quantise(values, BLOCK, out);
    }
}
