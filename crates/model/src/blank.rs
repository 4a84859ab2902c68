//! Models of given sizes that lie nowhere: to measure what such a model takes and how fast it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::DecoderConfig;
use crate::model::Model;
use crate::weights::Weights;

/// Stands for the path of a model that has none.
const NOWHERE: &str = "(a model of these sizes)";

/// Weights of given shapes whose values mean nothing.
#[derive(Debug)]
pub(crate) struct Blank {
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Model {
    /// A model of this description whose weights are small, all different from 0, and mean nothing.
    pub fn blank(config: DecoderConfig) -> Self {
        let shapes = config.weights().into_iter().collect();
        Self::with_weights(PathBuf::from(NOWHERE), config, Weights::Blank(Blank { shapes }))
    }
}

impl Blank {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// Appends as many values as the tensor has: norms of one, and matrices of both signs.
    pub(crate) fn read(&self, name: &str, out: &mut Vec<f32>) {
        let shape = self.shape(name).unwrap_or_default();
        let value = |i: usize| if shape.len() == 1 { 1.0 } else { ((i * 7 % 23) as f32 - 11.3) / 1000.0 };
        out.extend((0..shape.iter().product()).map(value));
    }
}
