//! GGUF files: header, metadata and tensors, brought under canonical Hugging Face names.

mod config;
mod cursor;
mod header;
mod metadata;
mod names;
mod permutation;
mod types;

use collimate_kernels::quant::{BlockKind, Blocks};
use std::collections::HashMap;
use std::io::BufReader;
use std::path::Path;

use crate::config::DecoderConfig;
use crate::elements::Elements;
use crate::error::{Error, Result, nearest};
use crate::family::{self, Description};
use crate::file::{self, DataFile};

use cursor::Cursor;
use header::{Header, TensorInfo};
use permutation::RotaryHeads;

pub use metadata::Metadata;

/// Divisors of the rotary frequencies; not a weight of the model, but part of its configuration.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// A matrix as a file stores it: rows of whole blocks, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlocks {
    /// The kind of the blocks.
    pub kind: BlockKind,
    /// The blocks.
    pub bytes: Vec<u8>,
}

impl<'a> From<&'a StoredBlocks> for Blocks<'a> {
    fn from(stored: &'a StoredBlocks) -> Self {
        Self { kind: stored.kind, bytes: &stored.bytes }
    }
}

/// An opened GGUF file: its header is known, its tensors are read on demand.
#[derive(Debug)]
pub(crate) struct Gguf {
    file: DataFile,
    header: Header,
    family: &'static Description,
    /// Which tensor of the header stands under a canonical name.
    places: HashMap<String, usize>,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = DataFile::open(path)?;
        let reader = BufReader::new(file::open(path)?);
        let header = Header::parse(&mut Cursor::new(reader, file.len(), path))?;
        let architecture = header.metadata.get_str("general.architecture")?.unwrap_or("(none)");
        let family = family::by_gguf_architecture(architecture, path)?;
        let canonical =
            |(place, tensor): (usize, &TensorInfo)| Some((names::canonical(&tensor.name)?, place));
        let places = header.tensors.iter().enumerate().filter_map(canonical).collect();
        Ok(Self { file, header, family, places })
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// Describes the decoder from the metadata, and from the tensors where the metadata says nothing.
    pub(crate) fn decoder_config(&self) -> Result<DecoderConfig> {
        let mut config_file = config::config_file(self)?;
        if let Some(divisors) = self.header.tensors.iter().find(|tensor| tensor.name == ROPE_DIVISORS) {
            config_file.rope_divisors = Some(self.rope_divisors(divisors)?);
        }
        self.family.decoder(&config_file, self.file.path())
    }

    fn rope_divisors(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let mut divisors = Vec::new();
        self.read_tensor(tensor, &mut divisors)?;
        match divisors.iter().find(|divisor| !divisor.is_normal()) {
            None => Ok(divisors),
            Some(divisor) => Err(Error::Field {
                path: self.file.path().to_owned(),
                field: ROPE_DIVISORS.to_owned(),
                expected: "numbers other than 0".to_owned(),
                got: divisor.to_string(),
            }),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensor(name)?.shape)
    }

    pub(crate) fn elements(&self, name: &str) -> Option<Elements> {
        Some(self.tensor(name)?.elements)
    }

    /// Appends the numbers of the tensor of this canonical name to `out`.
    pub(crate) fn read(&self, name: &str, out: &mut Vec<f32>) -> Result<()> {
        let (tensor, start) = (self.expect(name)?, out.len());
        self.read_tensor(tensor, out)?;
        if let Some(heads) = self.rotary_heads(name, tensor)? {
            heads.restore(&mut out[start..]);
        }
        Ok(())
    }

    /// The blocks of the tensor of this canonical name, row after row, if it is stored in blocks.
    pub(crate) fn blocks(&self, name: &str) -> Result<Option<StoredBlocks>> {
        let tensor = self.expect(name)?;
        let Elements::Blocks(kind) = tensor.elements else { return Ok(None) };
        let mut bytes = Vec::new();
        self.file.visit(tensor.range.clone(), 1, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        if let Some(heads) = self.rotary_heads(name, tensor)? {
            heads.restore(&mut bytes);
        }
        Ok(Some(StoredBlocks { kind, bytes }))
    }

    fn expect(&self, name: &str) -> Result<&TensorInfo> {
        self.tensor(name).ok_or_else(|| Error::MissingTensor {
            path: self.file.path().to_owned(),
            name: name.to_owned(),
            nearest: nearest(name, self.names()),
        })
    }

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        Some(&self.header.tensors[*self.places.get(name)?])
    }

    fn read_tensor(&self, tensor: &TensorInfo, out: &mut Vec<f32>) -> Result<()> {
        out.reserve(tensor.shape.iter().product());
        let elements = tensor.elements;
        self.file.visit(tensor.range.clone(), elements.unit_bytes(), |bytes| elements.decode(bytes, out))
    }

    /// How the rows of a q or k projection fall into heads, if their order is another than Hugging Face's.
    fn rotary_heads(&self, name: &str, tensor: &TensorInfo) -> Result<Option<RotaryHeads>> {
        let heads = if !self.family.gguf_permutes_rotary {
            return Ok(None);
        } else if name.contains(".q_proj.") {
            config::query_heads(self)?
        } else if name.contains(".k_proj.") {
            config::key_value_heads(self)?
        } else {
            return Ok(None);
        };
        let rows = tensor.shape[0];
        RotaryHeads::new(rows, heads).map(Some).ok_or_else(|| Error::Field {
            path: self.file.path().to_owned(),
            field: tensor.name.clone(),
            expected: format!("rows for {heads} heads of even width"),
            got: rows.to_string(),
        })
    }
}
