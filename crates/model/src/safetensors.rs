//! Safetensors files: the header is checked against the file before anything is believed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path};

use ::safetensors::Dtype;
use ::safetensors::tensor::{Metadata, TensorInfo};
use collimate_kernels::quant::Packing;
use serde::Deserialize;

use crate::bitsandbytes::{self, Stored, StoredCodes};
use crate::config::DecoderConfig;
use crate::elements::Elements;
use crate::error::{Error, Result, nearest};
use crate::file::{DataFile, read_json};
use crate::fusion::{Piece, Pieces};

/// Bytes of the header's length, at the file's start.
const LENGTH_BYTES: u64 = 8;

/// The format's own limit on the header.
const HEADER_LIMIT: u64 = 100_000_000;

/// More dimensions than any weight has; a shape must stay printable.
const DIMENSION_LIMIT: usize = 8;

/// One safetensors file: its header, and its tensors read on demand.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    file: DataFile,
    metadata: Metadata,
    data_start: u64,
}

impl SafetensorsFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = DataFile::open(path)?;
        let header_len = header_length(&file)?;
        // At most the file's own length: checked just above.
        let mut header = vec![0; header_len as usize];
        file.read_at(LENGTH_BYTES, &mut header)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| unsound(path, error))?;
        let data_start = LENGTH_BYTES + header_len;
        if data_start.checked_add(metadata.data_len() as u64) != Some(file.len()) {
            let (described, there) = (metadata.data_len(), file.len() - data_start);
            return Err(unsound(
                path,
                format!("the header describes {described} bytes of data, there are {there}"),
            ));
        }
        let many = metadata.tensors().into_iter().find(|(_, info)| info.shape.len() > DIMENSION_LIMIT);
        if let Some((name, info)) = many {
            return Err(unsound(path, format!("the tensor `{name}` has {} dimensions", info.shape.len())));
        }
        Ok(Self { file, metadata, data_start })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// Shape and type of a tensor.
    pub(crate) fn described(&self, name: &str) -> Result<(&[usize], Elements)> {
        let info = self.metadata.info(name).ok_or_else(|| self.missing(name))?;
        Ok((&info.shape, self.elements(name, info)?))
    }

    /// Appends the tensor's numbers to `out`.
    pub(crate) fn read(&self, name: &str, out: &mut Vec<f32>) -> Result<()> {
        let info = self.metadata.info(name).ok_or_else(|| self.missing(name))?;
        self.read_range(name, info, self.range(info), out)
    }

    /// Appends the numbers of a part of the tensor to `out`.
    fn read_piece(&self, piece: &Piece, out: &mut Vec<f32>) -> Result<()> {
        let info = self.metadata.info(&piece.matrix).ok_or_else(|| self.missing(&piece.matrix))?;
        self.read_range(&piece.matrix, info, piece.range(self.range(info)), out)
    }

    fn read_range(&self, name: &str, info: &TensorInfo, range: Range<u64>, out: &mut Vec<f32>) -> Result<()> {
        let elements = self.elements(name, info)?;
        out.reserve((range.end - range.start) as usize / elements.unit_bytes());
        self.file.visit(range, elements.unit_bytes(), |bytes| elements.decode(bytes, out))
    }

    /// The tensor's bytes as they are.
    fn bytes(&self, name: &str, dtype: Dtype) -> Result<Vec<u8>> {
        let info = self.metadata.info(name).ok_or_else(|| self.missing(name))?;
        if info.dtype != dtype {
            return Err(self.wrong_type(name, info.dtype, &dtype.to_string()));
        }
        let mut bytes = Vec::new();
        self.file.visit(self.range(info), 1, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    pub(crate) fn missing(&self, name: &str) -> Error {
        let names = self.names();
        Error::MissingTensor {
            path: self.path().to_owned(),
            name: name.to_owned(),
            nearest: nearest(name, names.iter().map(String::as_str)),
        }
    }

    fn range(&self, info: &TensorInfo) -> Range<u64> {
        let (start, end) = info.data_offsets;
        self.data_start + start as u64..self.data_start + end as u64
    }

    fn elements(&self, name: &str, info: &TensorInfo) -> Result<Elements> {
        match info.dtype {
            Dtype::F32 => Ok(Elements::F32),
            Dtype::F16 => Ok(Elements::F16),
            Dtype::BF16 => Ok(Elements::Bf16),
            other => Err(self.wrong_type(name, other, "F32, F16, BF16")),
        }
    }

    fn wrong_type(&self, name: &str, got: Dtype, known: &str) -> Error {
        let (path, name) = (self.path().to_owned(), name.to_owned());
        Error::TensorType { path, name, got: got.to_string(), known: known.to_owned() }
    }
}

fn header_length(file: &DataFile) -> Result<u64> {
    if file.len() < LENGTH_BYTES {
        return Err(unsound(file.path(), format!("it has only {} bytes", file.len())));
    }
    let mut bytes = [0; LENGTH_BYTES as usize];
    file.read_at(0, &mut bytes)?;
    let length = u64::from_le_bytes(bytes);
    if length > file.len() - LENGTH_BYTES {
        let reason = format!("its header claims {length} bytes, the file has {}", file.len());
        return Err(unsound(file.path(), reason));
    }
    if length > HEADER_LIMIT {
        return Err(unsound(
            file.path(),
            format!("its header has {length} bytes, allowed are {HEADER_LIMIT}"),
        ));
    }
    Ok(length)
}

pub(crate) fn unsound(path: &Path, reason: impl ToString) -> Error {
    Error::Safetensors { path: path.to_owned(), reason: reason.to_string() }
}

/// A model's safetensors: one file, or shards with an index.
#[derive(Debug)]
pub(crate) struct Safetensors {
    shards: Vec<SafetensorsFile>,
    /// Which shard holds a tensor.
    places: BTreeMap<String, usize>,
    pieces: Pieces,
    /// How weights are stored that bitsandbytes quantised.
    quantised: BTreeMap<String, Stored>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Safetensors {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = SafetensorsFile::open(path)?;
        let places = file.names().into_iter().map(|name| (name, 0)).collect();
        Self { shards: vec![file], places, pieces: Pieces::default(), quantised: BTreeMap::new() }
            .with_quantised()
    }

    /// Opens the shards that the index at `path` names; they lie beside it.
    pub(crate) fn open_sharded(path: &Path) -> Result<Self> {
        let index: Index = read_json(path)?;
        let mut files: Vec<&String> = index.weight_map.values().collect();
        files.sort();
        files.dedup();
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut shards = Vec::new();
        for file in &files {
            check_file_name(file, path)?;
            shards.push(SafetensorsFile::open(&folder.join(file))?);
        }
        let mut places = BTreeMap::new();
        for (name, file) in &index.weight_map {
            // Found always: `files` was made from the same names.
            let Ok(place) = files.binary_search(&file) else { continue };
            if shards[place].shape(name).is_none() {
                return Err(shards[place].missing(name));
            }
            places.insert(name.clone(), place);
        }
        Self { shards, places, pieces: Pieces::default(), quantised: BTreeMap::new() }.with_quantised()
    }

    fn with_quantised(mut self) -> Result<Self> {
        self.quantised = bitsandbytes::find(&self)?;
        Ok(self)
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
            None => self.quantised.get(name).and_then(Stored::shape).or_else(|| self.stored_shape(name)),
        }
    }

    /// The type of the tensor's numbers; none where they are not read as they lie there.
    pub(crate) fn elements(&self, name: &str) -> Option<Elements> {
        let stored = self.pieces.get(name).map_or(name, |piece| &piece.matrix);
        if self.quantised.contains_key(stored) {
            return None;
        }
        let file = &self.shards[*self.places.get(stored)?];
        file.elements(stored, file.metadata.info(stored)?).ok()
    }

    /// Appends the numbers of the tensor, which must be there, to `out`.
    pub(crate) fn read(&self, name: &str, out: &mut Vec<f32>) -> Result<()> {
        if let Some(piece) = self.pieces.get(name) {
            return self.read_piece(piece, out);
        }
        match self.quantised.get(name) {
            Some(stored) => bitsandbytes::read(self, name, stored, out),
            None => self.shard(name).read(name, out),
        }
    }

    /// Appends the numbers of a weight that lies with others in one matrix.
    fn read_piece(&self, piece: &Piece, out: &mut Vec<f32>) -> Result<()> {
        let name = &piece.matrix;
        if !self.quantised.contains_key(name) {
            return self.shard(name).read_piece(piece, out);
        }
        let mut matrix = Vec::new();
        self.read(name, &mut matrix)?;
        let range = piece.range(0..matrix.len() as u64);
        out.extend_from_slice(&matrix[range.start as usize..range.end as usize]);
        Ok(())
    }

    /// The codes and scales of a weight that bitsandbytes quantised; none where it lies with others in one matrix, whose
    /// blocks need not end where the weight does.
    pub(crate) fn codes(&self, name: &str) -> Result<Option<StoredCodes>> {
        let stored = self.matrix(name).filter(|_| self.is_whole(name));
        stored.map(|(matrix, stored)| bitsandbytes::codes(self, matrix, stored)).transpose()
    }

    /// How the tensor is quantised; none where [`Safetensors::codes`] gives none.
    pub(crate) fn packing(&self, name: &str) -> Option<Packing> {
        self.matrix_packing(name).filter(|_| self.is_whole(name))
    }

    /// How the matrix is quantised in which the tensor lies, be it with others.
    pub(crate) fn matrix_packing(&self, name: &str) -> Option<Packing> {
        self.matrix(name).map(|(_, stored)| stored.packing())
    }

    /// The quantised matrix in which a tensor lies.
    fn matrix<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a Stored)> {
        let matrix = self.pieces.get(name).map_or(name, |piece| &piece.matrix);
        self.quantised.get(matrix).map(|stored| (matrix, stored))
    }

    fn is_whole(&self, name: &str) -> bool {
        self.pieces.get(name).is_none_or(Piece::is_whole)
    }

    /// The shape of the tensor itself.
    pub(crate) fn stored_shape(&self, name: &str) -> Option<&[usize]> {
        self.shards[*self.places.get(name)?].shape(name)
    }

    /// The bytes of a tensor of this type.
    pub(crate) fn bytes(&self, name: &str, dtype: Dtype) -> Result<Vec<u8>> {
        self.shard(name).bytes(name, dtype)
    }

    /// The numbers of a tensor that is not quantised.
    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let mut floats = Vec::new();
        self.shard(name).read(name, &mut floats)?;
        Ok(floats)
    }

    /// The file that holds a tensor, or should.
    pub(crate) fn path_of(&self, name: &str) -> &Path {
        self.shard(name).path()
    }

    fn shard(&self, name: &str) -> &SafetensorsFile {
        &self.shards[self.places.get(name).copied().unwrap_or(0)]
    }
}

/// A shard must lie beside its index: a name with folders in it could reach any file.
fn check_file_name(name: &str, index: &Path) -> Result<()> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => Ok(()),
        _ => Err(Error::Field {
            path: index.to_owned(),
            field: "weight_map".to_owned(),
            expected: "the names of files in the same folder".to_owned(),
            got: format!("\"{name}\""),
        }),
    }
}
