//! GGUF files that lie: each is refused before memory is taken for what it claims.

use crate::common;
use crate::gguf::GgufBytes;
use collimate_model::{DecoderConfig, Model, RopeScaling, SaveOptions};

const F32: u32 = 0;
const Q4_K: u32 = 12;
const IQ2_XXS: u32 = 16;

/// The error's text for a file of these bytes.
fn refusal(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    common::write(&path, bytes);
    common::text(&Model::open(&path).unwrap_err(), folder.path())
}

/// The error's first line: the help is the same for all files that are not sound.
fn reason(bytes: &[u8]) -> String {
    refusal(bytes).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn torn_files_are_refused() {
    let sound = std::fs::read(common::fixture("tiny-llama.gguf")).unwrap();
    insta::assert_snapshot!(refusal(&sound[..sound.len() - 64]), @"
    model.gguf is not a sound GGUF file: at byte 1677: `output.weight` takes 6400 bytes from 69984 on, there are 76320 in all
    help: the file is probably cut short or damaged: fetch or convert it again
    ");
    let refusals = [0, 3, 6, 20, 30, 100, 1000].map(|end| reason(&sound[..end]));
    insta::assert_snapshot!(refusals.join("\n"), @"
    model.gguf is not a sound GGUF file: at byte 0: 4 bytes should follow, 0 bytes are left
    model.gguf is not a sound GGUF file: at byte 0: 4 bytes should follow, 3 bytes are left
    model.gguf is not a sound GGUF file: at byte 4: 4 bytes should follow, 2 bytes are left
    model.gguf is not a sound GGUF file: at byte 16: 21 tensors should follow, 4 bytes are left
    model.gguf is not a sound GGUF file: at byte 16: 21 tensors should follow, 14 bytes are left
    model.gguf is not a sound GGUF file: at byte 16: 21 tensors should follow, 84 bytes are left
    model.gguf is not a sound GGUF file: at byte 986: 19 bytes of text should follow, 14 bytes are left
    ");
}

#[test]
fn other_files_and_versions_are_refused() {
    let version = |version: u32| GgufBytes(b"GGUF".to_vec()).u32(version).u64(0).u64(0).0;
    let refusals = [b"PK\x03\x04 and more".to_vec(), version(1), version(4), version(3_u32.swap_bytes())];
    insta::assert_snapshot!(refusals.map(|bytes| reason(&bytes)).join("\n"), @"
    model.gguf is not a sound GGUF file: at byte 0: it does not begin with the letters GGUF
    model.gguf is not a sound GGUF file: at byte 4: it has version 1, only 2 and 3 are read
    model.gguf is not a sound GGUF file: at byte 4: it has version 4, only 2 and 3 are read
    model.gguf is not a sound GGUF file: at byte 4: it is big-endian, only little-endian files are read
    ");
}

#[test]
fn counts_and_lengths_that_lie_are_refused() {
    let architecture = || GgufBytes::start(0, 1).text("general.architecture");
    let refusals = [
        GgufBytes::start(u64::MAX, 0),
        GgufBytes::start(0, u64::MAX / 2),
        GgufBytes::start(0, 1).u64(1 << 62).u32(8).u64(0),
        architecture().u32(8).u64(u64::MAX),
        architecture().u32(9).u32(8).u64(1 << 40),
        architecture().u32(9).u32(0).u64(u64::MAX),
        architecture().u32(9).u32(9).u64(1).u32(4).u64(0),
        architecture().u32(77).u64(0),
        architecture().u32(7).u32(2),
        GgufBytes::start(0, 1).u64(2).u32(0xffff),
        GgufBytes::start(0, 2).number_pair("a", 1).number_pair("a", 2),
    ];
    insta::assert_snapshot!(refusals.map(|file| reason(&file.0)).join("\n"), @"
    model.gguf is not a sound GGUF file: at byte 16: 18446744073709551615 tensors should follow, 8 bytes are left
    model.gguf is not a sound GGUF file: at byte 24: 9223372036854775807 metadata values should follow, 0 bytes are left
    model.gguf is not a sound GGUF file: at byte 32: 4611686018427387904 bytes of text should follow, 12 bytes are left
    model.gguf is not a sound GGUF file: at byte 64: 18446744073709551615 bytes of text should follow, 0 bytes are left
    model.gguf is not a sound GGUF file: at byte 68: 1099511627776 values of a list should follow, 0 bytes are left
    model.gguf is not a sound GGUF file: at byte 68: 18446744073709551615 values of a list should follow, 0 bytes are left
    model.gguf is not a sound GGUF file: at byte 68: lists of lists are not supported
    model.gguf is not a sound GGUF file: at byte 56: there is no value type 77
    model.gguf is not a sound GGUF file: at byte 57: 2 is neither true nor false
    model.gguf is not a sound GGUF file: at byte 24: 1 metadata values should follow, 12 bytes are left
    model.gguf is not a sound GGUF file: at byte 41: the key `a` stands there twice
    ");
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    let one = |dimensions: &[u64], kind, offset| {
        GgufBytes::start(1, 0).tensor("x", dimensions, kind, offset).data(64)
    };
    let refusals = [
        one(&vec![1; 1_000_000], F32, 0),
        one(&[], F32, 0),
        one(&[4, 0], F32, 0),
        one(&[u64::MAX, u64::MAX, 2], F32, 0),
        one(&[1 << 40, 1 << 10], F32, 0),
        one(&[16], F32, 32),
        one(&[4], F32, u64::MAX - 31),
        one(&[4], F32, 4),
        one(&[128, 2], Q4_K, 0),
        GgufBytes::start(2, 0).tensor("x", &[4], F32, 0).tensor("x", &[4], F32, 32).data(64),
        GgufBytes::start(2, 0).tensor("x", &[16], F32, 0).tensor("y", &[4], F32, 32).data(64),
    ];
    insta::assert_snapshot!(refusals.map(|bytes| reason(&bytes)).join("\n"), @"
    model.gguf is not a sound GGUF file: at byte 37: `x` has 1000000 dimensions, allowed are 1 to 4
    model.gguf is not a sound GGUF file: at byte 37: `x` has 0 dimensions, allowed are 1 to 4
    model.gguf is not a sound GGUF file: at byte 53: `x` has a dimension of 0
    model.gguf is not a sound GGUF file: at byte 24: the shape of `x`, [2, 18446744073709551615, 18446744073709551615], is beyond all bounds
    model.gguf is not a sound GGUF file: at byte 24: `x` takes 4503599627370496 bytes from 0 on, there are 64 in all
    model.gguf is not a sound GGUF file: at byte 24: `x` takes 64 bytes from 32 on, there are 64 in all
    model.gguf is not a sound GGUF file: at byte 24: `x` takes 16 bytes from 18446744073709551584 on, there are 64 in all
    model.gguf is not a sound GGUF file: at byte 24: `x` begins at 4, which is no multiple of 32
    model.gguf is not a sound GGUF file: at byte 24: the rows of `x`, [2, 128], are not made of blocks of 256
    model.gguf is not a sound GGUF file: at byte 57: the tensor `x` stands there twice
    model.gguf is not a sound GGUF file: at byte 57: `y` overlaps `x`
    ");
    let refusals = [
        one(&[256], IQ2_XXS, 0),
        one(&[4], 1000, 0),
        GgufBytes::start(0, 1).number_pair("general.alignment", 24).data(0),
        GgufBytes::start(0, 1).text_pair("general.alignment", "32").data(0),
    ];
    insta::assert_snapshot!(refusals.map(|bytes| refusal(&bytes)).join("\n\n"), @"
    model.gguf: the tensor `x` is of the type IQ2_XXS
    help: readable types: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16; convert the weights to one of them

    model.gguf: the tensor `x` is of the type number 1000, which is not known
    help: readable types: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16; convert the weights to one of them

    model.gguf: `general.alignment` should be a power of two, but is 24
    help: correct it there; a file that came from elsewhere can be fetched again

    model.gguf: `general.alignment` should be a whole number of 32 bits from 0 up, but is a text of 2 bytes
    help: correct it there; a file that came from elsewhere can be fetched again
    ");
}

#[test]
fn models_that_are_not_supported_or_not_whole_are_refused() {
    let architecture = |name| GgufBytes::start(0, 1).text_pair("general.architecture", name).data(0);
    let mixture = GgufBytes::start(0, 2)
        .text_pair("general.architecture", "llama")
        .number_pair("llama.expert_count", 8);
    let refusals = [
        GgufBytes::start(0, 0).data(0),
        architecture("gemma"),
        architecture("qwen3moe"),
        architecture("llama"),
        mixture.data(0),
    ];
    insta::assert_snapshot!(refusals.map(|bytes| refusal(&bytes)).join("\n\n"), @"
    model.gguf: models of the kind `(none)` are not supported
    help: known kinds: llama, qwen2, qwen3, smollm3, gemma2, gemma3, phi3

    model.gguf: models of the kind `gemma` are not supported
    help: known kinds: llama, qwen2, qwen3, smollm3, gemma2, gemma3, phi3; the nearest is `gemma3`

    model.gguf: models of the kind `qwen3moe` are not supported
    help: known kinds: llama, qwen2, qwen3, smollm3, gemma2, gemma3, phi3; the nearest is `qwen3`

    model.gguf: `llama.embedding_length` should be a whole number of 32 bits from 0 up, but is missing
    help: correct it there; a file that came from elsewhere can be fetched again

    model.gguf: `llama.expert_count` is 8, which is not supported
    help: only models where it is 0 or not set are supported
    ");
}

/// A sound model of one tiny layer, all weights 1, with more metadata and perhaps divisors of the frequencies.
fn tiny(texts: &[(&str, &str)], numbers: &[(&str, u32)], divisors: &[f32]) -> Vec<u8> {
    let sizes = [
        ("embedding_length", 8),
        ("feed_forward_length", 16),
        ("block_count", 1),
        ("context_length", 64),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.layer_norm_rms_epsilon", 1),
    ];
    let mut tensors: Vec<(&str, Vec<u64>)> = vec![
        ("token_embd.weight", vec![8, 4]),
        ("output_norm.weight", vec![8]),
        ("blk.0.attn_norm.weight", vec![8]),
        ("blk.0.attn_q.weight", vec![8, 8]),
        ("blk.0.attn_k.weight", vec![8, 4]),
        ("blk.0.attn_v.weight", vec![8, 4]),
        ("blk.0.attn_output.weight", vec![8, 8]),
        ("blk.0.ffn_norm.weight", vec![8]),
        ("blk.0.ffn_gate.weight", vec![8, 16]),
        ("blk.0.ffn_up.weight", vec![8, 16]),
        ("blk.0.ffn_down.weight", vec![16, 8]),
    ];
    if !divisors.is_empty() {
        tensors.push(("rope_freqs.weight", vec![divisors.len() as u64]));
    }
    let pairs = 1 + sizes.len() + texts.len() + numbers.len();
    let mut file =
        GgufBytes::start(tensors.len() as u64, pairs as u64).text_pair("general.architecture", "llama");
    for (key, value) in sizes.iter().chain(numbers) {
        file = file.number_pair(&format!("llama.{key}"), *value);
    }
    for (key, value) in texts {
        file = file.text_pair(&format!("llama.{key}"), value);
    }
    let mut data: Vec<u8> = Vec::new();
    for (name, dimensions) in &tensors {
        file = file.tensor(name, dimensions, F32, data.len() as u64);
        let count = dimensions.iter().product::<u64>() as usize;
        let divisor = |i: usize| if *name == "rope_freqs.weight" { divisors[i] } else { 1.0 };
        data.extend((0..count).flat_map(|i| divisor(i).to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    let mut bytes = file.data(0);
    bytes.extend(data);
    bytes
}

fn config(bytes: &[u8]) -> DecoderConfig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    common::write(&path, bytes);
    Model::open(&path).unwrap().config().clone()
}

#[test]
fn divisors_of_the_rotary_frequencies_are_read() {
    let plain = config(&tiny(&[], &[], &[]));
    let divided = config(&tiny(&[], &[], &[1.0, 8.0]));
    assert_eq!(divided.rope.scaling, RopeScaling::Divisors(vec![1.0, 8.0]));
    let (plain, _) = plain.rope.frequencies(4);
    assert_eq!(divided.rope.frequencies(4), (vec![plain[0], plain[1] / 8.0], 1.0));
    let refusals = [tiny(&[], &[], &[1.0]), tiny(&[], &[], &[1.0, 0.0])];
    insta::assert_snapshot!(refusals.map(|bytes| reason(&bytes)).join("\n"), @"
    model.gguf: `rope_freqs.weight` should be 2 numbers, half of a head's width, but is 1
    model.gguf: `rope_freqs.weight` should be numbers other than 0, but is 0
    ");
}

#[test]
fn what_config_json_cannot_say_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    common::write(&path, &tiny(&[], &[], &[1.0, 8.0]));
    let model = Model::open(&path).unwrap();
    let error = model.save(&folder.path().join("saved"), SaveOptions::default()).unwrap_err();
    insta::assert_snapshot!(common::text(&error, folder.path()), @"
    model.gguf: `rope_freqs.weight` is a list of divisors, which is not supported
    help: config.json has no place for them: take the model's Hugging Face folder to save it anew
    ");
    assert!(!folder.path().join("saved/model.safetensors").exists());
}

#[test]
fn rotary_scaling_is_read_from_the_metadata() {
    let kind = "rope.scaling.type";
    let numbers =
        [("rope.freq_base", 500), ("rope.scaling.factor", 4), ("rope.scaling.original_context_length", 16)];
    let yarn = config(&tiny(&[(kind, "yarn")], &numbers, &[])).rope;
    assert_eq!(yarn.theta, 500.0);
    let RopeScaling::Yarn(yarn) = yarn.scaling else { panic!("{yarn:?}") };
    assert_eq!((yarn.factor, yarn.original_max_position_embeddings, yarn.beta_fast), (4.0, 16.0, 32.0));
    let linear = config(&tiny(&[(kind, "linear")], &numbers, &[])).rope;
    assert_eq!(linear.scaling, RopeScaling::Linear { factor: 4.0 });
    let refusals = [
        tiny(&[(kind, "longrope")], &numbers, &[]),
        tiny(&[(kind, "yarn")], &[("rope.scaling.attn_factor", 2)], &[]),
        tiny(&[], &[("rope.dimension_count", 2), ("attention.key_length", 4)], &[]),
    ];
    insta::assert_snapshot!(refusals.map(|bytes| reason(&bytes)).join("\n"), @"
    model.gguf: `rope_type` is longrope, which is not supported
    model.gguf: `llama.rope.scaling.attn_factor` is 2, which is not supported
    model.gguf: `llama.rope.dimension_count` should be 4, as wide as a head, but is 2
    ");
}
