//! A model's stored weights under canonical names, whatever the file.

use std::path::Path;

use crate::blank::Blank;
use crate::config::DecoderConfig;
use crate::elements::Elements;
use crate::error::{Error, Result, nearest};
use crate::gguf::Gguf;
use crate::safetensors::Safetensors;
use crate::stored_type::StoredType;

/// Where the weights lie.
#[derive(Debug)]
pub(crate) enum Weights {
    Safetensors(Safetensors),
    Gguf(Box<Gguf>),
    Blank(Blank),
}

impl Weights {
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        match self {
            Self::Safetensors(weights) => weights.shape(name),
            Self::Gguf(weights) => weights.shape(name),
            Self::Blank(weights) => weights.shape(name),
        }
    }

    /// How the tensor's numbers lie in the file; none where there is no such tensor.
    pub(crate) fn elements(&self, name: &str) -> Option<Elements> {
        match self {
            Self::Safetensors(weights) => weights.elements(name),
            Self::Gguf(weights) => weights.elements(name),
            Self::Blank(weights) => weights.shape(name).map(|_| Elements::F32),
        }
    }

    /// The type of the tensor's numbers; none where they are quantised, or there is no such tensor.
    pub(crate) fn stored_type(&self, name: &str) -> Option<StoredType> {
        self.elements(name).and_then(Elements::stored_type)
    }

    /// Finds the weights that such a model stores with others in one matrix; from then on they are tensors like any.
    pub(crate) fn find_pieces(&mut self, config: &DecoderConfig) {
        match self {
            Self::Safetensors(weights) => weights.find_pieces(config),
            Self::Gguf(weights) => weights.find_pieces(config),
            Self::Blank(_) => {}
        }
    }

    /// Appends the numbers of the tensor, which must be there, to `out`.
    pub(crate) fn read(&self, name: &str, out: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Safetensors(weights) => weights.read(name, out),
            Self::Gguf(weights) => weights.read(name, out),
            Self::Blank(weights) => {
                weights.read(name, out);
                Ok(())
            }
        }
    }

    /// Checks that every weight that the configuration asks for is there in its shape; reads none of them.
    pub(crate) fn check(&self, config: &DecoderConfig, path: &Path) -> Result<()> {
        for (name, expected) in config.weights() {
            match self.shape(&name) {
                None => return Err(self.missing(name, path)),
                Some(got) if got != expected => {
                    let got = got.to_vec();
                    return Err(Error::TensorShape { path: path.to_owned(), name, expected, got });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn missing(&self, name: impl Into<String>, path: &Path) -> Error {
        let name = name.into();
        let nearest = match self {
            Self::Safetensors(weights) => nearest(&name, weights.names()),
            Self::Gguf(weights) => nearest(&name, weights.names()),
            Self::Blank(weights) => nearest(&name, weights.names()),
        };
        Error::MissingTensor { path: path.to_owned(), name, nearest }
    }
}
