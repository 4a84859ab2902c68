//! `model info` on the tiny models and their adapters.

use crate::common::fixtures;
use collimate_stages::model::info::{Info, ModelInfo, Stored, describe};
use std::path::Path;

/// What is said of a model; nothing of an adapter.
fn model(path: &Path) -> Option<Box<ModelInfo>> {
    match describe(path).unwrap() {
        Info::Model(model) => Some(model),
        Info::Adapter(_) => None,
    }
}

#[test]
fn a_folder_is_described_from_its_headers() {
    let info = model(&fixtures().join("tiny/llama")).unwrap();
    let (embedding, layer) = (400 * 64, 64 * (64 + 32 + 32 + 64) + 3 * 64 * 80);
    assert_eq!(
        (info.family.as_str(), info.format, info.heads.as_slice()),
        ("llama", "safetensors", &["tokens"][..])
    );
    let parameters = info.parameters;
    assert_eq!((parameters.embedding, parameters.head, parameters.norms), (embedding, 0, 5 * 64));
    assert_eq!(parameters.total, embedding + 2 * layer + 5 * 64);
    assert_eq!(parameters.attention + parameters.mlp, 2 * layer);
    let [Stored { dtype, tensors, parameters: count, bytes }] = info.stored[..] else { panic!("one type") };
    assert_eq!((tensors, count), (1 + 2 * 9 + 1, parameters.total));
    let width = if dtype == "float32" { 4 } else { 2 };
    assert_eq!(bytes, width * count);
    assert_eq!((info.sizes.num_hidden_layers, info.positions.max_position_embeddings), (2, 512));
    let tokenizer = info.tokenizer.unwrap();
    assert_eq!(tokenizer.kind, "BPE");
    assert!(tokenizer.special_tokens.contains_key("eos_token"));
    assert!(tokenizer.chat_template.is_some());
}

#[test]
fn a_gguf_file_shows_its_kinds_of_blocks() {
    let path = fixtures().join("../crates/model/tests/fixtures/tiny-llama.gguf");
    let info = model(&path).unwrap();
    assert_eq!(info.format, "gguf");
    assert_eq!(info.stored.iter().map(|stored| stored.parameters).sum::<u64>(), info.parameters.total);
    let header = std::fs::metadata(&path).unwrap().len();
    assert!(info.stored.iter().map(|stored| stored.bytes).sum::<u64>() < header);
}

#[test]
fn an_adapter_tells_its_rank_and_where_it_stands() {
    let Info::Adapter(info) = describe(&fixtures().join("tiny/llama/adapter")).unwrap() else {
        panic!("it is an adapter")
    };
    assert!(info.modules > 0 && info.config.r > 0);
    assert_eq!(info.stored.iter().map(|stored| stored.parameters).sum::<u64>(), info.parameters);
}

#[test]
fn what_is_no_model_is_refused() {
    let error = describe(&fixtures()).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}
