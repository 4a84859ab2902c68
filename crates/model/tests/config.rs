//! `config.json` as it comes: both spellings of the rotary settings, what is refused, and how that is said.

use crate::common;
use std::path::Path;

use collimate_model::{DecoderConfig, Family, Model, RopeScaling};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Largest relative distance from transformers' frequencies: powers in f32 differ in the last bit or two between
/// mathematics libraries (2^-23 each), and YaRN adds two of them.
const FREQUENCY_TOLERANCE: f32 = 3e-7;

#[derive(Deserialize)]
struct RopeCase {
    name: String,
    config: Value,
    frequencies: Vec<f32>,
    attention_factor: f32,
}

fn read(config: &Value) -> collimate_model::Result<DecoderConfig> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    common::write(&path, config.to_string().as_bytes());
    DecoderConfig::read(&path)
}

/// The errors' texts for a fixture's configuration, each time with some fields changed.
fn refusals<const N: usize>(fixture: &str, changes: [Value; N]) -> String {
    changes.map(|changes| refusal(fixture, changes)).join("\n\n")
}

/// The error's text for a fixture's configuration with some fields changed; null takes a field out.
fn refusal(fixture: &str, changes: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(common::fixture(fixture).join("config.json")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_str(&text).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => config.shift_remove(name),
            value => config.insert(name.clone(), value.clone()),
        };
    }
    common::write(&path, serde_json::to_string(&config).unwrap().as_bytes());
    common::text(&DecoderConfig::read(&path).unwrap_err(), folder.path())
}

#[test]
fn rotary_frequencies_are_those_of_transformers() {
    let text = std::fs::read_to_string(common::fixture("rope.json")).unwrap();
    let cases: Vec<RopeCase> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let config = read(&case.config).unwrap();
        let (frequencies, attention_factor) = config.rope.frequencies(config.head_dim);
        assert_eq!(frequencies.len(), case.frequencies.len(), "{}", case.name);
        for (got, expected) in frequencies.iter().zip(&case.frequencies) {
            let distance = (got - expected).abs() / expected;
            assert!(distance <= FREQUENCY_TOLERANCE, "{}: {got} for {expected}", case.name);
        }
        assert_eq!(attention_factor, case.attention_factor, "{}", case.name);
    }
}

#[test]
fn defaults_are_those_of_transformers() {
    let config = read(&json!({
        "model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 1, "num_attention_heads": 2, "eos_token_id": [3, 4], "pad_token_id": -1,
    }))
    .unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim, config.max_position_embeddings), (2, 4, 2048));
    assert_eq!((config.rms_norm_eps, config.rope.theta), (1e-6, 10_000.0));
    assert_eq!(config.rope.scaling, RopeScaling::None);
    assert!(!config.tie_word_embeddings && !config.qkv_bias && !config.mlp_bias);
    assert_eq!((config.bos_token_id, config.pad_token_id), (None, None));
    assert_eq!(config.eos_token_ids, [3, 4]);
}

#[test]
fn mistral_may_have_no_window() {
    let mistral = json!({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 10, "hidden_size": 8,
        "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 6,
        "sliding_window": null,
    });
    let config = read(&mistral).unwrap();
    assert_eq!((config.family, config.head_dim), (Family::Mistral, 6));
    assert!(config.layer_attention.iter().all(|layer| layer.window.is_none()));
}

#[test]
fn an_unknown_architecture_is_refused_with_the_known_ones() {
    insta::assert_snapshot!(refusals("tiny-llama", [
        json!({"architectures": ["LlamaForTokenClassification"]}),
        json!({"architectures": null, "model_type": "qwen2_moe"}),
        json!({"architectures": null, "model_type": null}),
    ]), @"
    config.json: models of the kind `LlamaForTokenClassification` are not supported
    help: known kinds: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, SmolLM3ForCausalLM, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Phi3ForCausalLM; the nearest is `LlamaForCausalLM`

    config.json: models of the kind `qwen2_moe` are not supported
    help: known kinds: llama, mistral, qwen2, qwen3, smollm3, gemma2, gemma3_text, gemma3, phi3; the nearest is `qwen2`

    config.json: models of the kind `(no model_type)` are not supported
    help: known kinds: llama, mistral, qwen2, qwen3, smollm3, gemma2, gemma3_text, gemma3, phi3
    ");
}

#[test]
fn settings_that_change_the_mathematics_are_refused() {
    insta::assert_snapshot!(refusals("tiny-llama", [
        json!({"hidden_act": "gelu"}),
        json!({"quantization_config": {"quant_method": "awq"}}),
        json!({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
        json!({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}}),
        json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
    ]), @r#"
    config.json: `hidden_act` is gelu, which is not supported
    help: supported activations: silu, gelu_pytorch_tanh

    config.json: `quantization_config` is awq, which is not supported
    help: take the model's unquantised folder, one that bitsandbytes quantised, or a GGUF file of it

    config.json: `rope_type` is dynamic, which is not supported
    help: supported kinds: default, linear, llama3, yarn

    config.json: `rope_parameters` is set for full_attention, which is not supported
    help: all layers must share one rotary embedding

    config.json: `partial_rotary_factor` is 0.5, which is not supported
    help: the rotary embedding must cover whole heads
    "#);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    insta::assert_snapshot!(refusals("tiny-llama", [
        json!({"num_key_value_heads": 3}),
        json!({"num_hidden_layers": 1_000_000}),
        json!({"head_dim": null, "num_attention_heads": 7}),
        json!({"head_dim": 15}),
        json!({"hidden_size": null}),
        json!({"hidden_size": "wide"}),
        json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}),
    ]), @r#"
    config.json: `num_key_value_heads` should be a divisor of num_attention_heads = 4, but is 3
    help: correct it there; a file that came from elsewhere can be fetched again

    config.json: `num_hidden_layers` should be between 1 and 4096, but is 1000000
    help: correct it there; a file that came from elsewhere can be fetched again

    config.json: `num_attention_heads` should be a divisor of hidden_size = 64, as there is no head_dim, but is 7
    help: correct it there; a file that came from elsewhere can be fetched again

    config.json: `head_dim` should be even, but is 15
    help: correct it there; a file that came from elsewhere can be fetched again

    config.json: missing field `hidden_size` at line 1 column 588
    help: correct the file, or fetch it again from where it came

    config.json: invalid type: string "wide", expected usize at line 1 column 191
    help: correct the file, or fetch it again from where it came

    config.json: `factor` should be a number, but is missing
    help: correct it there; a file that came from elsewhere can be fetched again
    "#);
}

#[test]
fn a_wrong_path_is_refused_with_what_was_meant() {
    let open = |path: &Path| common::text(&Model::open(path).unwrap_err(), path.parent().unwrap());
    let within = tempfile::tempdir().unwrap();
    let (empty, no_weights, torn) =
        (within.path().join("empty"), within.path().join("no_weights"), within.path().join("torn"));
    for folder in [&empty, &no_weights, &torn] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::copy(common::fixture("tiny-llama/config.json"), no_weights.join("config.json")).unwrap();
    common::write(&torn.join("config.json"), b"{\"model_type\": \"llama\",");
    let refusals = [
        open(&common::fixture("nowhere")),
        open(&common::fixture("adapter")),
        open(&common::fixture("tiny-qwen2/model.safetensors")),
        open(&common::fixture("rope.json")),
        open(&empty),
        open(&no_weights),
        open(&torn),
    ];
    insta::assert_snapshot!(refusals.join("\n\n"), @"
    cannot read nowhere
    help: check the path; it counts from the folder in which the command is run

    adapter: it is an adapter
    help: give the base model here, and this folder as the adapter

    model.safetensors: a safetensors file does not describe itself
    help: give the folder that holds it, with its config.json

    rope.json is not a sound GGUF file: at byte 0: it does not begin with the letters GGUF
    help: the file is probably cut short or damaged: fetch or convert it again

    empty: there is no config.json
    help: give a Hugging Face model folder (config.json, model.safetensors, tokenizer.json) or a .gguf file

    no_weights: there is neither model.safetensors nor model.safetensors.index.json
    help: fetch the weights as safetensors; other kinds (pytorch_model.bin) are not read

    torn/config.json: EOF while parsing a value at line 1 column 23
    help: correct the file, or fetch it again from where it came
    ");
}
