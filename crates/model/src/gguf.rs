//! GGUF files: header, metadata and tensors, brought under canonical Hugging Face names.

mod config;
mod cursor;
mod header;
mod metadata;
mod names;
mod permutation;
mod types;
mod value;
mod writer;

use collimate_kernels::quant::{BlockKind, Blocks};
use std::collections::HashMap;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;

use crate::config::DecoderConfig;
use crate::elements::Elements;
use crate::error::{Error, Result, nearest};
use crate::family::{self, Description};
use crate::file::{self, DataFile};
use crate::fusion::Pieces;

use cursor::Cursor;
use header::{Header, TensorInfo};
use permutation::RotaryHeads;

pub use metadata::Metadata;
pub use writer::{GgufReport, GgufType, write, write_adapter};

/// Divisors of the rotary frequencies; not a weight of the model, but part of its configuration.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// The end of the names of all norms.
const NORM: &str = "norm.weight";

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

/// Where a weight lies.
struct Place<'a> {
    /// The tensor that it is, or is a part of.
    tensor: &'a TensorInfo,
    /// Its bytes, counted from the file's start.
    range: Range<u64>,
}

/// An opened GGUF file: its header is known, its tensors are read on demand.
#[derive(Debug)]
pub(crate) struct Gguf {
    file: DataFile,
    header: Header,
    family: &'static Description,
    /// Which tensor of the header stands under a canonical name.
    places: HashMap<String, usize>,
    pieces: Pieces,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = DataFile::open(path)?;
        let reader = BufReader::new(file::open(path)?);
        let header = Header::parse(&mut Cursor::new(reader, file.len(), path))?;
        let architecture = header.metadata.get_str("general.architecture")?.unwrap_or("(none)");
        let family = family::by_gguf_architecture(architecture, path)?;
        let canonical =
            |(place, tensor): (usize, &TensorInfo)| Some((names::canonical(&tensor.name, family)?, place));
        let places = header.tensors.iter().enumerate().filter_map(canonical).collect();
        Ok(Self { file, header, family, places, pieces: Pieces::default() })
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
        self.read_range(tensor, tensor.range.clone(), &mut divisors)?;
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

    /// Finds the weights that lie with others in one matrix.
    pub(crate) fn find_pieces(&mut self, config: &DecoderConfig) {
        self.pieces = Pieces::new(config, |name| self.shape(name));
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        match self.pieces.get(name) {
            Some(piece) => Some(&piece.shape),
            None => Some(&self.tensor(name)?.shape),
        }
    }

    pub(crate) fn elements(&self, name: &str) -> Option<Elements> {
        let stored = self.pieces.get(name).map_or(name, |piece| &piece.matrix);
        Some(self.tensor(stored)?.elements)
    }

    /// Appends the numbers of the tensor of this canonical name to `out`.
    pub(crate) fn read(&self, name: &str, out: &mut Vec<f32>) -> Result<()> {
        let (place, start) = (self.place(name)?, out.len());
        self.read_range(place.tensor, place.range, out)?;
        if let Some(heads) = self.rotary_heads(name, place.tensor)? {
            heads.restore(&mut out[start..]);
        }
        if self.family.unit_offset_norms && name.ends_with(NORM) {
            out[start..].iter_mut().for_each(|weight| *weight -= 1.0);
        }
        Ok(())
    }

    /// The blocks of the tensor of this canonical name, row after row, if it is stored in blocks.
    pub(crate) fn blocks(&self, name: &str) -> Result<Option<StoredBlocks>> {
        let place = self.place(name)?;
        let Elements::Blocks(kind) = place.tensor.elements else { return Ok(None) };
        let mut bytes = Vec::new();
        self.file.visit(place.range, 1, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        if let Some(heads) = self.rotary_heads(name, place.tensor)? {
            heads.restore(&mut bytes);
        }
        Ok(Some(StoredBlocks { kind, bytes }))
    }

    fn place(&self, name: &str) -> Result<Place<'_>> {
        let piece = self.pieces.get(name);
        let stored = piece.map_or(name, |piece| &piece.matrix);
        let tensor = self.tensor(stored).ok_or_else(|| Error::MissingTensor {
            path: self.file.path().to_owned(),
            name: name.to_owned(),
            nearest: nearest(name, self.names()),
        })?;
        let whole = tensor.range.clone();
        Ok(Place { tensor, range: piece.map_or(whole.clone(), |piece| piece.range(whole)) })
    }

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        Some(&self.header.tensors[*self.places.get(name)?])
    }

    fn read_range(&self, tensor: &TensorInfo, range: Range<u64>, out: &mut Vec<f32>) -> Result<()> {
        let elements = tensor.elements;
        let units = (range.end - range.start) as usize / elements.unit_bytes();
        out.reserve(units * elements.unit_len());
        self.file.visit(range, elements.unit_bytes(), |bytes| elements.decode(bytes, out))
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
