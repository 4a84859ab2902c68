//! The same weights and the same configuration come out of a GGUF file and of the folder that transformers makes
//! of that file.

use crate::common;
use std::collections::HashSet;
use std::path::Path;

use collimate_kernels::quant::dequantise;
use collimate_model::{Family, Model};

/// Compares all weights to the bit.
fn assert_same(gguf: &Path, folder: &Path) {
    let (gguf, folder) = (Model::open(gguf).unwrap(), Model::open(folder).unwrap());
    assert!(gguf.gguf_metadata().is_some() && folder.gguf_metadata().is_none());
    let (mut from_gguf, mut from_folder) = (Vec::new(), Vec::new());
    for (name, shape) in folder.config().weights() {
        assert_eq!(gguf.read(&name, &mut from_gguf).unwrap(), shape);
        assert_eq!(folder.read(&name, &mut from_folder).unwrap(), shape);
        assert_eq!(from_gguf.len(), shape.iter().product::<usize>());
        let same = from_gguf.iter().zip(&from_folder).all(|(left, right)| left.to_bits() == right.to_bits());
        assert!(same && from_gguf.len() == from_folder.len(), "{name} differs");
    }
}

#[test]
fn many_types_and_permuted_rows_read_as_transformers_reads_them() {
    assert_same(&common::fixture("tiny-llama.gguf"), &common::fixture("tiny-llama"));
}

#[test]
fn biases_tied_head_and_bf16_read_as_transformers_reads_them() {
    assert_same(&common::fixture("tiny-qwen2.gguf"), &common::fixture("tiny-qwen2"));
}

#[test]
fn stored_blocks_are_the_weights_that_are_read() {
    let mut kinds = HashSet::new();
    for name in ["tiny-llama.gguf", "tiny-qwen2.gguf"] {
        let model = Model::open(&common::fixture(name)).unwrap();
        let mut read = Vec::new();
        for (name, _) in model.config().weights() {
            let Some(blocks) = model.blocks(&name).unwrap() else { continue };
            model.read(&name, &mut read).unwrap();
            let mut weights = vec![0.0; read.len()];
            dequantise(blocks.kind, &blocks.bytes, &mut weights).unwrap();
            assert_eq!(weights, read, "{name}");
            kinds.insert(blocks.kind);
        }
    }
    assert!(kinds.len() > 3, "{kinds:?}");
    let folder = Model::open(&common::fixture("tiny-llama")).unwrap();
    assert_eq!(folder.blocks("model.embed_tokens.weight").unwrap(), None);
}

#[test]
fn gguf_metadata_says_what_config_json_says() {
    for name in ["tiny-llama", "tiny-qwen2"] {
        let gguf = Model::open(&common::fixture(&format!("{name}.gguf"))).unwrap();
        let folder = Model::open(&common::fixture(name)).unwrap();
        assert_eq!(gguf.config(), folder.config());
    }
    let config = Model::open(&common::fixture("tiny-qwen2")).unwrap().config().clone();
    assert_eq!(config.family, Family::Qwen2);
    assert!(config.qkv_bias && !config.o_bias && !config.mlp_bias && config.tie_word_embeddings);
    assert_eq!((config.head_dim, config.bos_token_id, &*config.eos_token_ids), (16, Some(1), &[2][..]));
}

#[test]
fn half_precision_folder_reads_as_f32() {
    let folder = common::copy("tiny-qwen2");
    let model = Model::open(folder.path()).unwrap();
    let mut embedding = Vec::new();
    model.read("model.embed_tokens.weight", &mut embedding).unwrap();
    // The fixture holds bf16: what is read has no bit below.
    assert!(embedding.iter().all(|value| value.to_bits() & 0xffff == 0));
    assert!(embedding.iter().any(|value| *value != 0.0));
}

#[test]
fn unknown_tensor_is_refused_with_the_nearest_name() {
    let path = common::fixture("tiny-llama");
    let model = Model::open(&path).unwrap();
    let error = model.read("model.layers.0.self_attn.q_prj.weight", &mut Vec::new()).unwrap_err();
    insta::assert_snapshot!(common::text(&error, &path), @r"
    FOLDER: the tensor `model.layers.0.self_attn.q_prj.weight` is missing
    help: the weights and their configuration do not belong together, or a file is missing; the nearest name there is `model.layers.0.self_attn.q_proj.weight`
    ");
}

#[test]
fn real_gguf_files_read_as_transformers_reads_them() {
    let Some(models) = common::real_models() else { return };
    for name in ["smol", "qwen"] {
        assert_same(&models.join(format!("{name}.gguf")), &models.join(name));
    }
}
