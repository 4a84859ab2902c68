//! The tensor types of ggml by their numbers.

use collimate_kernels::quant::BlockKind;

use crate::elements::Elements;

/// The types that are read, with their numbers in ggml.
const READABLE: [(u32, &str, Elements); 11] = [
    (0, "F32", Elements::F32),
    (1, "F16", Elements::F16),
    (2, "Q4_0", Elements::Blocks(BlockKind::Q4_0)),
    (3, "Q4_1", Elements::Blocks(BlockKind::Q4_1)),
    (6, "Q5_0", Elements::Blocks(BlockKind::Q5_0)),
    (7, "Q5_1", Elements::Blocks(BlockKind::Q5_1)),
    (8, "Q8_0", Elements::Blocks(BlockKind::Q8_0)),
    (12, "Q4_K", Elements::Blocks(BlockKind::Q4K)),
    (13, "Q5_K", Elements::Blocks(BlockKind::Q5K)),
    (14, "Q6_K", Elements::Blocks(BlockKind::Q6K)),
    (30, "BF16", Elements::Bf16),
];

/// Types that are not read, so that a message can name them.
const OTHER: [(u32, &str); 22] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

/// The readable type of this number.
pub(super) fn elements(number: u32) -> Option<Elements> {
    READABLE.into_iter().find(|(known, ..)| *known == number).map(|(.., elements)| elements)
}

/// The number of a type, which every one has.
pub(super) fn number(elements: Elements) -> u32 {
    place(elements).map_or(u32::MAX, |(number, ..)| number)
}

/// What a type is called.
pub(super) fn elements_name(elements: Elements) -> &'static str {
    place(elements).map_or("", |(_, name, _)| name)
}

fn place(elements: Elements) -> Option<(u32, &'static str, Elements)> {
    READABLE.into_iter().find(|(.., known)| *known == elements)
}

/// What a type that is not read is called.
pub(super) fn name(number: u32) -> String {
    let known = OTHER.into_iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("number {number}, which is not known"), |(_, name)| name.to_owned())
}

/// The names of the readable types.
pub(super) fn readable() -> String {
    READABLE.map(|(_, name, _)| name).join(", ")
}
