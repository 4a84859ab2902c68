//! A model written as a GGUF file, as llama.cpp's converter and `llama-quantize` would make it.

mod adapter;
mod conventions;
mod description;
mod file_type;
mod form;
mod vocabulary;

use std::collections::BTreeMap;
use std::path::Path;

use collimate_kernels::quant::BlockKind;
use file_type::Fit;
use form::{Form, Pairs, Tensor};

use super::permutation::RotaryHeads;
use super::{NORM, ROPE_DIVISORS, names, types};
use crate::config::DecoderConfig;
use crate::elements::Elements;
use crate::error::{Error, Result};
use crate::family;
use crate::fusion::{AsStored, as_stored, parts};
use crate::model::Model;
use crate::safetensors_writer::WeightSource;
use crate::tokenizer::Tokenizer;

pub use adapter::write_adapter;
pub use file_type::GgufType;

/// The version of ggml's blocks, `general.quantization_version`.
const NEWEST_BLOCKS: u32 = 2;

/// Numbers turned into bytes at a time: whole blocks of every kind.
const PIECE: usize = 1 << 20;

/// Keys that tell of a file's own form, how its weights were quantised among it; what holds is written anew.
const FORM_KEYS: [&str; 4] =
    ["general.file_type", "general.quantization_version", "general.quantized_by", "general.alignment"];

/// What such keys begin with.
const FORM_PREFIXES: [&str; 2] = ["split.", "quantize.imatrix."];

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufReport {
    /// The file's size.
    pub bytes: u64,
    /// How many tensors are of each type, by llama.cpp's name of it.
    pub tensors: BTreeMap<&'static str, usize>,
    /// How many tensors are of another type than they should be, because their rows are not whole blocks of it.
    pub fell_back: usize,
    /// The window of attention that llama.cpp does not heed, in tokens: it lets the model see longer texts whole.
    pub unheeded_window: Option<usize>,
}

/// Writes the model to a GGUF file at `path`: description, tokenizer, chat template, weights. Adapters that are merged
/// are in the weights. What a GGUF file said of the model is kept; its blocks stay as they are where the new file has
/// the same kind.
///
/// A tokenizer that is given is written instead of the model's own; of one that is given for a GGUF file, the chat
/// template, where the file has none.
///
/// Takes the memory of the largest weight. The file is there whole or not at all. Errors: a model that llama.cpp would
/// compute in another way (a scalar head, an unknown convention), a tokenizer that it cannot express or that is missing,
/// weights beyond the type's range, a failed read or write.
pub fn write(
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    path: &Path,
    kind: GgufType,
) -> Result<GgufReport> {
    description::check(model)?;
    let pairs = match model.gguf_metadata() {
        Some(metadata) => {
            let kept = metadata.pairs().into_iter();
            let kept = kept.filter(|(key, _)| !is_of_form(key));
            let kept = kept.map(|(key, value)| (key.to_owned(), value.clone()));
            let template = tokenizer.filter(|_| !metadata.has(vocabulary::CHAT_TEMPLATE));
            let template = template.into_iter().flat_map(vocabulary::templates);
            kept.chain(description::general(kind)).chain(template).collect()
        }
        None => {
            let mut pairs = description::pairs(model, kind)?;
            pairs.extend(match tokenizer {
                Some(tokenizer) => vocabulary::pairs(tokenizer, model)?,
                None => vocabulary::pairs(&model.tokenizer()?, model)?,
            });
            pairs
        }
    };
    Plan::new(model, kind)?.write(&pairs, path)
}

fn is_of_form(key: &str) -> bool {
    FORM_KEYS.contains(&key) || FORM_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// The tensors of a file, and where they come from.
struct Plan<'a> {
    model: &'a Model,
    /// What rotary frequencies are divided by: the first tensor, where there are any.
    divisors: Option<Vec<f32>>,
    tensors: Vec<Tensor>,
    /// The canonical names of the weights, in the order of the tensors behind the divisors.
    weights: Vec<String>,
    fell_back: usize,
}

impl<'a> Plan<'a> {
    fn new(model: &'a Model, kind: GgufType) -> Result<Self> {
        let decoder = model.config();
        let divisors = description::rope_divisors(decoder);
        let mut plan = Self { model, divisors, tensors: Vec::new(), weights: Vec::new(), fell_back: 0 };
        plan.tensors.extend(plan.divisors.iter().map(|divisors| Tensor {
            name: ROPE_DIVISORS.to_owned(),
            shape: vec![divisors.len()],
            elements: Elements::F32,
        }));
        for (weight, shape) in as_stored(decoder, decoder.weights()) {
            let name = names::stored(&weight, family::of(decoder.family)).ok_or_else(|| {
                Error::UnexpectedTensor { path: model.path().to_owned(), name: weight.clone() }
            })?;
            let (elements, fit) = kind.elements(&name, &shape, decoder);
            plan.fell_back += usize::from(fit == Fit::FellBack);
            plan.tensors.push(Tensor { name, shape, elements });
            plan.weights.push(weight);
        }
        Ok(plan)
    }

    fn write(&self, pairs: &Pairs, path: &Path) -> Result<GgufReport> {
        let mut form = Form::start(path, pairs, &self.tensors)?;
        let (mut numbers, mut bytes) = (Vec::new(), Vec::new());
        if let Some(divisors) = &self.divisors {
            Elements::F32.encode(divisors, &mut bytes)?;
            form.put(&bytes)?;
            form.pad()?;
        }
        let first = usize::from(self.divisors.is_some());
        for (weight, tensor) in self.weights.iter().zip(&self.tensors[first..]) {
            self.put(weight, tensor, &mut form, (&mut numbers, &mut bytes))?;
            form.pad()?;
        }
        let mut tensors = BTreeMap::new();
        for tensor in &self.tensors {
            *tensors.entry(types::elements_name(tensor.elements)).or_default() += 1;
        }
        let unheeded_window = conventions::unheeded_window(self.model.config());
        Ok(GgufReport { bytes: form.finish()?, tensors, fell_back: self.fell_back, unheeded_window })
    }

    fn put(
        &self,
        weight: &str,
        tensor: &Tensor,
        form: &mut Form,
        (numbers, bytes): (&mut Vec<f32>, &mut Vec<u8>),
    ) -> Result<()> {
        let decoder = self.model.config();
        let heads = rotary_heads(weight, tensor.shape[0], decoder);
        if let Elements::Blocks(kind) = tensor.elements
            && self.stored_blocks(weight, kind, bytes)?
        {
            if let Some(heads) = heads {
                heads.permute(bytes);
            }
            return form.put(bytes);
        }
        // A model's weights are always in the buffer.
        AsStored::new(self.model, decoder).weight(weight, numbers)?;
        if let Some(heads) = heads {
            heads.permute(numbers);
        }
        if decoder.unit_offset_norms && weight.ends_with(NORM) {
            numbers.iter_mut().for_each(|weight| *weight += 1.0);
        }
        self.check_range(weight, tensor.elements, numbers)?;
        for piece in numbers.chunks(PIECE) {
            bytes.clear();
            tensor.elements.encode(piece, bytes)?;
            form.put(bytes)?;
        }
        Ok(())
    }

    /// Replaces `bytes` by the model's own blocks of the weight, or of all that are in it, if they are of this kind.
    fn stored_blocks(&self, weight: &str, kind: BlockKind, bytes: &mut Vec<u8>) -> Result<bool> {
        bytes.clear();
        for part in parts(weight, self.model.config()) {
            match self.model.blocks(&part)?.filter(|stored| stored.kind == kind) {
                Some(stored) => bytes.extend(stored.bytes),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Half precision, and scales in it, end at 65504; blocks of no numbers mean nothing.
    fn check_range(&self, weight: &str, elements: Elements, numbers: &[f32]) -> Result<()> {
        let most = half::f16::MAX.to_f32();
        let beyond = |number: &&f32| number.is_nan() || number.abs() > most;
        match elements {
            Elements::F32 | Elements::Bf16 => Ok(()),
            Elements::F16 | Elements::Blocks(_) => match numbers.iter().find(beyond) {
                None => Ok(()),
                Some(number) => Err(Error::Field {
                    path: self.model.path().to_owned(),
                    field: weight.to_owned(),
                    expected: format!(
                        "numbers of at most {most}, to be stored as {}",
                        types::elements_name(elements)
                    ),
                    got: number.to_string(),
                }),
            },
        }
    }
}

/// How the rows of a q or k projection fall into heads, if files have them in another order.
fn rotary_heads(weight: &str, rows: usize, decoder: &DecoderConfig) -> Option<RotaryHeads> {
    let heads = if weight.contains(".q_proj.") {
        decoder.num_attention_heads
    } else if weight.contains(".k_proj.") {
        decoder.num_key_value_heads
    } else {
        return None;
    };
    RotaryHeads::new(rows, heads).filter(|_| family::of(decoder.family).gguf_permutes_rotary)
}
