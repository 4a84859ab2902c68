//! Weights into blocks: the recorded bytes of ggml, and bounds on what is read back.

use proptest::prelude::*;

use super::*;
use crate::quant::dequantise;

/// Weights, and for each kind what llama.cpp makes of them; written by `fixtures/encode.py`.
const FIXTURE: &[u8] = include_bytes!("../../../fixtures/encode.bin");

/// Bytes of the blocks of all kinds for 256 weights.
const BYTES: usize = 8 * (18 + 20 + 22 + 24 + 34) + 144 + 176 + 210;

#[test]
fn equals_llama_cpp_to_the_bit() {
    let len = FIXTURE.len() / (4 * 256 + BYTES) * 256;
    let (weights, mut rest) = FIXTURE.split_at(4 * len);
    let weights: Vec<f32> = weights.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    for kind in BlockKind::ALL {
        let (expected, after) = rest.split_at(len / kind.block_len() * kind.block_bytes());
        rest = after;
        // What is there stays.
        let mut blocks = vec![7];
        encode(kind, &weights, &mut blocks).unwrap();
        assert_eq!(blocks.remove(0), 7);
        let pairs = blocks.chunks(kind.block_bytes()).zip(expected.chunks(kind.block_bytes()));
        let wrong: Vec<usize> = pairs
            .enumerate()
            .filter(|(_, (got, expected))| got != expected)
            .map(|(index, _)| index)
            .collect();
        assert!(wrong.is_empty() && blocks.len() == expected.len(), "{}: blocks {wrong:?}", kind.name());
    }
    assert!(rest.is_empty());
}

#[test]
fn parts_of_blocks_are_refused() {
    for kind in BlockKind::ALL {
        let mut out = Vec::new();
        assert!(encode(kind, &vec![0.0; kind.block_len() + 1], &mut out).is_err());
        assert_eq!(encode(kind, &[], &mut out), Ok(()));
        assert!(out.is_empty());
    }
    let error = encode(BlockKind::Q4K, &[0.0; 576], &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "576 weights do not make whole blocks of Q4_K");
}

/// What half precision takes from a minimum and from the steps above it, which span up to twice the largest weight: three
/// times 2⁻¹¹ of that weight.
const ROUNDED: f32 = 1.5 / 2048.0;

/// What a kind may be off by at most, in parts of the range of a group's weights.
fn tolerance(kind: BlockKind) -> f32 {
    match kind {
        // Half a step; the last step is cut where a group has weights of its extreme's size on the other side.
        BlockKind::Q4_0 => 1.01 / 16.0,
        BlockKind::Q5_0 => 1.01 / 32.0,
        BlockKind::Q4_1 => 0.5 / 15.0 + ROUNDED,
        BlockKind::Q5_1 => 0.5 / 31.0 + ROUNDED,
        BlockKind::Q8_0 => 0.51 / 127.0,
        // The scales are rounded too, in parts of the greatest among the groups.
        BlockKind::Q4K => 1.6 / 15.0,
        BlockKind::Q5K => 1.6 / 31.0,
        BlockKind::Q6K => 1.6 / 32.0,
    }
}

proptest! {
    #[test]
    fn what_is_read_back_is_near(
        weights in prop::collection::vec(-1.0_f32..1.0, 512),
        exponent in 1..4_i32,
    ) {
        let weights: Vec<f32> = weights.iter().map(|weight| weight * 10.0_f32.powi(exponent)).collect();
        for kind in BlockKind::ALL {
            let (mut blocks, mut back) = (Vec::new(), vec![0.0; weights.len()]);
            encode(kind, &weights, &mut blocks).unwrap();
            dequantise(kind, &blocks, &mut back).unwrap();
            for (weights, back) in weights.chunks(kind.block_len()).zip(back.chunks(kind.block_len())) {
                let most = weights.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
                // Half precision rounds to 6e-8 at best, and integers reach 32 · 128.
                let allowed = 2.0 * most * tolerance(kind) + 1.3e-4;
                for (weight, back) in weights.iter().zip(back) {
                    prop_assert!((weight - back).abs() <= allowed, "{}: {weight} became {back}", kind.name());
                }
            }
        }
    }

    #[test]
    fn hostile_weights_do_not_panic(bits in prop::collection::vec(any::<u32>(), 256)) {
        let weights: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        for kind in BlockKind::ALL {
            prop_assert!(encode(kind, &weights, &mut Vec::new()).is_ok());
        }
    }
}
