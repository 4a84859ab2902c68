//! The types of GGUF files, and which type each tensor has in them: as `llama-quantize` chooses without an importance
//! matrix (`llama_tensor_get_type`).

use std::str::FromStr;

use collimate_kernels::quant::BlockKind;
use serde::{Deserialize, Serialize};

use crate::config::DecoderConfig;
use crate::elements::Elements;

/// How the weights of a GGUF file are stored, by llama.cpp's names. Norms and biases are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum GgufType {
    /// Every bit as it is computed with.
    F32,
    /// Half precision.
    F16,
    /// The upper half of f32.
    Bf16,
    /// Blocks of 8 bits.
    Q8_0,
    /// Blocks of 4 bits with a scale.
    Q4_0,
    /// Blocks of 4 bits with a scale and a minimum.
    Q4_1,
    /// Blocks of 5 bits with a scale.
    Q5_0,
    /// Blocks of 5 bits with a scale and a minimum.
    Q5_1,
    /// Mostly blocks of 4 bits in groups, some of 5.
    Q4KS,
    /// Mostly blocks of 4 bits in groups, half of the values and of the down projections of 6.
    Q4KM,
    /// Blocks of 5 bits in groups.
    Q5KS,
    /// Mostly blocks of 5 bits in groups, half of the values and of the down projections of 6.
    Q5KM,
    /// Blocks of 6 bits in groups.
    Q6K,
}

/// Each type with its name, its number in `general.file_type`, and what most of its tensors are.
const TYPES: [(GgufType, &str, u32, Elements); 13] = [
    (GgufType::F32, "F32", 0, Elements::F32),
    (GgufType::F16, "F16", 1, Elements::F16),
    (GgufType::Bf16, "BF16", 32, Elements::Bf16),
    (GgufType::Q8_0, "Q8_0", 7, Elements::Blocks(BlockKind::Q8_0)),
    (GgufType::Q4_0, "Q4_0", 2, Elements::Blocks(BlockKind::Q4_0)),
    (GgufType::Q4_1, "Q4_1", 3, Elements::Blocks(BlockKind::Q4_1)),
    (GgufType::Q5_0, "Q5_0", 8, Elements::Blocks(BlockKind::Q5_0)),
    (GgufType::Q5_1, "Q5_1", 9, Elements::Blocks(BlockKind::Q5_1)),
    (GgufType::Q4KS, "Q4_K_S", 14, Elements::Blocks(BlockKind::Q4K)),
    (GgufType::Q4KM, "Q4_K_M", 15, Elements::Blocks(BlockKind::Q4K)),
    (GgufType::Q5KS, "Q5_K_S", 16, Elements::Blocks(BlockKind::Q5K)),
    (GgufType::Q5KM, "Q5_K_M", 17, Elements::Blocks(BlockKind::Q5K)),
    (GgufType::Q6K, "Q6_K", 18, Elements::Blocks(BlockKind::Q6K)),
];

/// Names that llama.cpp takes for others.
const ALIASES: [(&str, GgufType); 2] = [("Q4_K", GgufType::Q4KM), ("Q5_K", GgufType::Q5KM)];

const Q5: Elements = Elements::Blocks(BlockKind::Q5K);
const Q6: Elements = Elements::Blocks(BlockKind::Q6K);
const Q8: Elements = Elements::Blocks(BlockKind::Q8_0);

/// How many layers the models have that llama.cpp calls 70B: eight of their heads share the same values, which are
/// kept at 5 bits.
const LARGE: usize = 80;

/// How many of the first layers have more bits in [`GgufType::Q4KS`].
const CAREFUL_VALUES: usize = 4;

impl GgufType {
    /// All types.
    pub const ALL: [Self; 13] = {
        let mut all = [Self::F32; 13];
        let mut index = 0;
        while index < all.len() {
            all[index] = TYPES[index].0;
            index += 1;
        }
        all
    };

    /// llama.cpp's name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The number in `general.file_type`.
    pub(super) fn number(self) -> u32 {
        self.row().2
    }

    fn row(self) -> (Self, &'static str, u32, Elements) {
        TYPES[self as usize]
    }

    /// What the tensor of this name and shape is in the file, and whether that is a way out because its rows are not
    /// whole blocks of what it should be.
    pub(super) fn elements(self, name: &str, shape: &[usize], decoder: &DecoderConfig) -> (Elements, Fit) {
        if shape.len() < 2 || !name.ends_with(".weight") || name.contains("_norm.") {
            return (Elements::F32, Fit::Wanted);
        }
        let usual = self.row().3;
        let Elements::Blocks(_) = usual else { return (usual, Fit::Wanted) };
        let columns = shape[shape.len() - 1];
        let role = Role::of(name, decoder.tie_word_embeddings);
        fitting(self.wanted(usual, role, columns, decoder), columns)
    }

    fn wanted(self, usual: Elements, role: Role, columns: usize, decoder: &DecoderConfig) -> Elements {
        let layers = decoder.num_hidden_layers;
        let more = |layer: usize| {
            let eighth = layers / 8;
            layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
        };
        match role {
            Role::Head if usual == Q8 || !columns.is_multiple_of(usual.unit_len()) => Q8,
            Role::Head => Q6,
            Role::Value(layer) | Role::Down(layer)
                if matches!(self, Self::Q4KM | Self::Q5KM) && more(layer) =>
            {
                Q6
            }
            Role::Value(layer) if self == Self::Q4KS && layer < CAREFUL_VALUES => Q5,
            Role::Down(layer) if self == Self::Q4KS && layer < layers / 8 => Q5,
            Role::Value(_) if usual == Elements::Blocks(BlockKind::Q4K) && large(decoder) => Q5,
            _ => usual,
        }
    }
}

fn large(decoder: &DecoderConfig) -> bool {
    decoder.num_hidden_layers == LARGE && decoder.num_attention_heads != decoder.num_key_value_heads
}

/// Whether a tensor is of the type that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Wanted,
    FellBack,
}

/// The type itself where the rows are whole blocks of it, else the nearest that they are.
fn fitting(wanted: Elements, columns: usize) -> (Elements, Fit) {
    let whole = |elements: Elements| columns.is_multiple_of(elements.unit_len());
    if whole(wanted) {
        return (wanted, Fit::Wanted);
    }
    let smaller = Elements::Blocks(match wanted {
        Elements::Blocks(BlockKind::Q4K) => BlockKind::Q5_0,
        Elements::Blocks(BlockKind::Q5K) => BlockKind::Q5_1,
        _ => BlockKind::Q8_0,
    });
    (if whole(smaller) { smaller } else { Elements::F16 }, Fit::FellBack)
}

/// What a matrix does, as far as it matters for its type.
#[derive(Debug, Clone, Copy)]
enum Role {
    /// The head, or the embedding where it is the head too.
    Head,
    Value(usize),
    Down(usize),
    Other,
}

impl Role {
    fn of(name: &str, tied: bool) -> Self {
        match name {
            "output.weight" => return Self::Head,
            "token_embd.weight" if tied => return Self::Head,
            _ => {}
        }
        let place = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        match place.and_then(|(layer, part)| Some((layer.parse().ok()?, part))) {
            // Where q, k and v are one matrix, it counts as the values.
            Some((layer, "attn_v.weight" | "attn_qkv.weight")) => Self::Value(layer),
            Some((layer, "ffn_down.weight")) => Self::Down(layer),
            _ => Self::Other,
        }
    }
}

impl std::fmt::Display for GgufType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for GgufType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = TYPES.iter().map(|(kind, name, ..)| (*name, *kind)).chain(ALIASES);
        let found = named.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, kind)| kind).ok_or_else(|| {
            let names = TYPES.map(|(_, name, ..)| name).join(", ");
            format!("no type of GGUF files that can be written; there are {names}")
        })
    }
}

impl From<GgufType> for String {
    fn from(kind: GgufType) -> Self {
        kind.name().to_owned()
    }
}

impl TryFrom<String> for GgufType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
