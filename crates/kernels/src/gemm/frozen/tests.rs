//! Products with quantised matrices against those with the dequantised ones, to the bit.

use super::Frozen;
use super::tile::Decoder;
use crate::Dtype;
use crate::check::values;
use crate::gemm::integers::tests::blocks;
use crate::gemm::{Into, Left, Packed, Part, Target};
use crate::quant::{BlockKind, Blocks, FourBit, Nibbles, RowBytes, dequantise};

/// A matrix with what it is when dequantised.
struct Case {
    name: String,
    size: [usize; 2],
    weight: Vec<f32>,
    frozen: Frozen,
}

fn cases(size: [usize; 2], dtype: Dtype) -> Vec<Case> {
    let [outputs, inputs] = size;
    let original = values(outputs * inputs, 1);
    let mut cases = Vec::new();
    for kind in [FourBit::Nf4, FourBit::Fp4] {
        let plain = Nibbles::quantise(kind, &original);
        for nibbles in [plain.clone(), plain.nested()] {
            let mut weight = vec![0.0; outputs * inputs];
            nibbles.dequantise(&mut weight);
            let frozen = Frozen::from_nibbles(nibbles, size, dtype);
            cases.push(Case { name: format!("{kind:?}"), size, weight, frozen });
        }
    }
    let rows = RowBytes::quantise(&original, inputs);
    let weight = rows.dequantise(inputs);
    cases.push(Case { name: "int8".to_owned(), size, weight, frozen: Frozen::from_rows(rows, size, dtype) });
    for kind in BlockKind::ALL.into_iter().filter(|kind| inputs.is_multiple_of(kind.block_len())) {
        let bytes = blocks(kind, outputs * inputs / kind.block_len(), 2);
        let mut weight = vec![0.0; outputs * inputs];
        dequantise(kind, &bytes, &mut weight).unwrap();
        let frozen = Frozen::from_blocks(Blocks { kind, bytes: &bytes }, inputs, dtype).unwrap();
        cases.push(Case { name: kind.name().to_owned(), size, weight, frozen });
    }
    cases
}

/// Whole groups and torn ones, one panel and several, rows that fill no tile, odd inner dimensions.
const SIZES: [[usize; 2]; 6] = [[70, 256], [64, 64], [200, 512], [33, 37], [7, 100], [300, 96]];

#[test]
fn both_directions_equal_the_dequantised_matrix_to_the_bit() {
    for dtype in Dtype::TRAINABLE {
        for Case { name, size: [outputs, inputs], weight, frozen } in
            SIZES.into_iter().flat_map(|size| cases(size, dtype))
        {
            let what = format!("{name} {outputs} x {inputs} in {dtype}");
            let m = 13;
            let (x, dy) = (values(m * inputs, 3), values(m * (outputs + 3), 4));
            let mut expected = vec![0.0; m * outputs];
            Packed::transposed(&weight, inputs, outputs, dtype).apply(m, &x, &mut expected, Into::Replace);
            for by_columns in [false, true] {
                let mut got = vec![1.0; m * (outputs + 5)];
                let target = Target { data: &mut got, row: outputs + 5 };
                if by_columns {
                    frozen.forward_columns(m, Left::rows(&x, inputs), target);
                } else {
                    frozen.forward(m, Left::rows(&x, inputs), target);
                }
                for (got, expected) in got.chunks(outputs + 5).zip(expected.chunks(outputs)) {
                    assert_eq!(got[..outputs], *expected, "{what}");
                    assert_eq!(got[outputs..], [1.0; 5], "{what}");
                }
            }
            for into in [Into::Replace, Into::Add] {
                let [mut expected, mut got] = [0, 0].map(|_| vec![0.5; m * inputs]);
                let left = Left::rows(&dy, outputs + 3);
                let packed = Packed::new(&weight, outputs, inputs, dtype);
                let part = Part { rows: 0..outputs, columns: 0..inputs };
                packed.multiply(m, left, part, Target { data: &mut expected, row: inputs }, into);
                frozen.backward(m, left, Target { data: &mut got, row: inputs }, into);
                assert_eq!(got, expected, "{what}, backward {into:?}");
            }
        }
    }
}

#[test]
fn all_instructions_give_the_bits_of_the_plain_loop() {
    for dtype in Dtype::TRAINABLE {
        for Case { name, size: [outputs, _], frozen, .. } in cases([128, 256], dtype) {
            let decoder = Decoder::new(frozen.values, frozen.unit);
            let tiles = [decoder, decoder.plain()].map(|decoder| {
                let mut words = vec![0.0; outputs / 2 * decoder.pair_words()];
                frozen.backward_tile(decoder, 1, 0..outputs / 2, &mut words);
                words.iter().map(|word| word.to_bits()).collect::<Vec<_>>()
            });
            assert!(tiles[0] == tiles[1], "{name} in {dtype}");
        }
    }
}

#[test]
fn doubly_quantised_nibbles_take_little_over_half_a_byte() {
    let weights = Nibbles::quantise(FourBit::Nf4, &values(512 * 1024, 1)).nested();
    let frozen = Frozen::from_nibbles(weights, [512, 1024], Dtype::Float32);
    assert_eq!(frozen.outputs(), 512);
    let each = frozen.bytes() as f64 / (512.0 * 1024.0);
    assert!(each < 0.516, "{each} bytes a weight");
}

#[test]
fn blocks_that_make_no_whole_rows_are_refused() {
    let bytes = vec![0; 3 * 18];
    let take =
        |inputs| Frozen::from_blocks(Blocks { kind: BlockKind::Q4_0, bytes: &bytes }, inputs, Dtype::Float32);
    assert_eq!(take(32).map(|frozen| frozen.outputs()), Ok(3));
    assert!(take(64).is_err() && take(33).is_err() && take(0).is_err());
}
