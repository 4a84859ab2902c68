//! Safetensors that lie: each is refused before memory is taken for what it claims.

use crate::common;
use std::path::Path;

use collimate_model::Model;
use serde_json::{Value, json};

/// The fixture with one bf16 file.
const FIXTURE: &str = "tiny-qwen2";

/// A safetensors file of this header and this many zero bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// The error's text for the fixture with other bytes in its weights' place.
fn refusal(bytes: &[u8]) -> String {
    let folder = common::copy(FIXTURE);
    common::write(&folder.path().join("model.safetensors"), bytes);
    common::text(&Model::open(folder.path()).unwrap_err(), folder.path())
}

fn tensor(shape: Value, offsets: [u64; 2]) -> Value {
    json!({"dtype": "F32", "shape": shape, "data_offsets": offsets})
}

#[test]
fn torn_files_are_refused() {
    let sound = std::fs::read(common::fixture(FIXTURE).join("model.safetensors")).unwrap();
    let mut one_byte_more = sound.clone();
    one_byte_more.push(0);
    let refusals = [&[], &sound[..7], &sound[..100], &sound[..sound.len() - 1], &one_byte_more].map(refusal);
    insta::assert_snapshot!(refusals.join("\n\n"), @"
    model.safetensors is not a sound safetensors file: it has only 0 bytes
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: it has only 7 bytes
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: its header claims 2640 bytes, the file has 100
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: the header describes 130432 bytes of data, there are 130431
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: the header describes 130432 bytes of data, there are 130433
    help: the file is probably cut short or damaged: fetch or save it again
    ");
}

#[test]
fn headers_that_lie_are_refused() {
    let zeros = 16;
    let one = |tensor: Value| file(&json!({ "x": tensor }).to_string(), zeros);
    let million = Value::from(vec![1; 1_000_000]);
    let twice = r#"{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                    "x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}"#;
    let refusals = [
        refusal(&u64::MAX.to_le_bytes()),
        refusal(&file("{", zeros)),
        refusal(&file("[1, 2]", zeros)),
        refusal(&file("\u{0}", zeros)),
        refusal(&one(tensor(json!([4]), [0, 1 << 60]))),
        refusal(&one(tensor(json!([4]), [16, 0]))),
        refusal(&one(tensor(json!([4]), [8, 24]))),
        refusal(&one(tensor(json!([3]), [0, 16]))),
        refusal(&one(tensor(json!([u64::MAX, u64::MAX]), [0, 16]))),
        refusal(&file(&json!({"x": tensor(million, [0, 4])}).to_string(), 4)),
        refusal(&one(json!({"dtype": "F128", "shape": [1], "data_offsets": [0, 16]}))),
        refusal(&file(twice, zeros)),
        refusal(&file("{}", 0)),
    ];
    insta::assert_snapshot!(refusals.join("\n\n"), @"
    model.safetensors is not a sound safetensors file: its header claims 18446744073709551615 bytes, the file has 8
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: EOF while parsing an object at line 1 column 1
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: invalid type: sequence, expected struct HashMetadata at line 1 column 0
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: expected value at line 1 column 1
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: invalid shape, data type, or offset for tensor
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: invalid offset for tensor `x`
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: invalid offset for tensor `x`
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: invalid shape, data type, or offset for tensor
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: overflow computing buffer size from shape and/or element type
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: the tensor `x` has 1000000 dimensions
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: unknown variant `F128`, expected one of `BOOL`, `F4`, `F6_E2M3`, `F6_E3M2`, `U8`, `I8`, `F8_E5M2`, `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, `I32`, `U32`, `F32`, `C64`, `F64`, `I64`, `U64` at line 1 column 56
    help: the file is probably cut short or damaged: fetch or save it again

    model.safetensors is not a sound safetensors file: invalid offset for tensor `x`
    help: the file is probably cut short or damaged: fetch or save it again

    FOLDER: the tensor `model.embed_tokens.weight` is missing
    help: the weights and their configuration do not belong together, or a file is missing
    ");
}

#[test]
fn weights_of_another_model_or_type_are_refused() {
    let open = |path: &Path| common::text(&Model::open(path).unwrap_err(), path);
    let folder = common::copy(FIXTURE);
    let config = folder.path().join("config.json");
    // Without the list that has one entry a layer.
    let text = std::fs::read_to_string(&config).unwrap().replace("layer_types", "no_layer_types");
    let with = |from: &str, to: &str| {
        assert!(text.contains(from));
        common::write(&config, text.replace(from, to).as_bytes());
        open(folder.path())
    };
    let refusals = [
        with("\"vocab_size\": 50", "\"vocab_size\": 51"),
        with("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
        with("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"),
    ];
    insta::assert_snapshot!(refusals.join("\n\n"), @"
    FOLDER: the tensor `model.embed_tokens.weight` should have the shape [51, 64], but has [50, 64]
    help: weights and configuration belong to two models: name the model that the adapter was made for, or fetch both anew

    FOLDER: the tensor `model.layers.2.input_layernorm.weight` is missing
    help: the weights and their configuration do not belong together, or a file is missing; the nearest name there is `model.layers.1.input_layernorm.weight`

    FOLDER: the tensor `lm_head.weight` is missing
    help: the weights and their configuration do not belong together, or a file is missing
    ");
    common::write(&config, text.as_bytes());
    let weights = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let other = String::from_utf8(bytes[8..header].to_vec()).unwrap().replace("\"BF16\"", "\"I16\"");
    common::write(&weights, &[file(&other, 0), bytes[header..].to_vec()].concat());
    let model = Model::open(folder.path()).unwrap();
    let error = model.read("model.norm.weight", &mut Vec::new()).unwrap_err();
    insta::assert_snapshot!(common::text(&error, folder.path()), @"
    model.safetensors: the tensor `model.norm.weight` is of the type I16
    help: readable types: F32, F16, BF16; convert the weights to one of them
    ");
}

#[test]
fn indexes_that_lie_are_refused() {
    let refusal = |index: &str| {
        let folder = common::copy("tiny-llama");
        common::write(&folder.path().join("model.safetensors.index.json"), index.as_bytes());
        common::text(&Model::open(folder.path()).unwrap_err(), folder.path())
    };
    let refusals = [
        refusal(r#"{"weight_map": {"model.norm.weight": "../model-00001-of-00006.safetensors"}}"#),
        refusal(r#"{"weight_map": {"model.norm.weight": "/model.safetensors"}}"#),
        refusal(r#"{"weight_map": {"model.norm.weight": "model-00009-of-00006.safetensors"}}"#),
        refusal(r#"{"weight_map": {"model.embed_tokens.bias": "model-00001-of-00006.safetensors"}}"#),
        refusal(r#"{"weight_map": {}}"#),
        refusal("{}"),
    ];
    insta::assert_snapshot!(refusals.join("\n\n"), @r#"
    model.safetensors.index.json: `weight_map` should be the names of files in the same folder, but is "../model-00001-of-00006.safetensors"
    help: correct it there; a file that came from elsewhere can be fetched again

    model.safetensors.index.json: `weight_map` should be the names of files in the same folder, but is "/model.safetensors"
    help: correct it there; a file that came from elsewhere can be fetched again

    cannot read model-00009-of-00006.safetensors
    help: check the path; it counts from the folder in which the command is run

    model-00001-of-00006.safetensors: the tensor `model.embed_tokens.bias` is missing
    help: the weights and their configuration do not belong together, or a file is missing; the nearest name there is `model.embed_tokens.weight`

    FOLDER: the tensor `model.embed_tokens.weight` is missing
    help: the weights and their configuration do not belong together, or a file is missing

    model.safetensors.index.json: missing field `weight_map` at line 1 column 2
    help: correct the file, or fetch it again from where it came
    "#);
}
