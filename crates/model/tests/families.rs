//! The families: what their files say, in folders and in GGUF files, and what is written back.

use crate::common;
use std::path::{Path, PathBuf};

use collimate_model::{
    Activation, DecoderConfig, Family, FullWeights, LayerAttention, Model, OutputHeads, Rope, RopeScaling,
    Rotary, SaveOptions, StoredType, SublayerNorms, Trainable,
};
use serde_json::{Map, Value, json};

/// The models of `fixtures/families.py`.
const FAMILIES: [&str; 7] = ["mistral", "qwen2_window", "qwen3", "smollm3", "gemma2", "gemma3", "phi3"];

/// GGUF files hold 1 + w in f32 for Gemma's norms: half of the last bit of numbers below 4.
const NORM_TOLERANCE: f32 = 2.5e-7;

fn folder(name: &str) -> PathBuf {
    common::fixture("../../../../fixtures/tiny").join(name)
}

fn open(name: &str) -> Model {
    Model::open(&folder(name)).unwrap()
}

fn weights(model: &Model) -> Vec<(String, Vec<f32>)> {
    let read = |(name, shape): (String, Vec<usize>)| {
        let mut values = Vec::new();
        assert_eq!(model.read(&name, &mut values).unwrap(), shape, "{name}");
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
        (name, values)
    };
    model.config().weights().into_iter().map(read).collect()
}

/// Windows of the layers, and how they turn.
fn layers(config: &DecoderConfig) -> Vec<(Option<usize>, Rotary)> {
    config.layer_attention.iter().map(|LayerAttention { window, rotary }| (*window, *rotary)).collect()
}

fn read(config: &Value) -> collimate_model::Result<DecoderConfig> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    common::write(&path, config.to_string().as_bytes());
    DecoderConfig::read(&path)
}

/// The `config.json` of a fixture with some fields changed; null takes a field out.
fn changed(name: &str, changes: Value) -> Value {
    let text = std::fs::read_to_string(folder(name).join("config.json")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_str(&text).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => config.shift_remove(name),
            value => config.insert(name.clone(), value.clone()),
        };
    }
    Value::Object(config)
}

fn refusals<const N: usize>(name: &str, changes: [Value; N]) -> String {
    let refusal = |changes| {
        let error = read(&changed(name, changes)).unwrap_err();
        let text = common::text(&error, Path::new("nowhere"));
        text.split_once("config.json: ").unwrap().1.to_owned()
    };
    changes.map(refusal).join("\n\n")
}

#[test]
fn windows_are_where_the_family_has_them() {
    let main =
        |windows: &[Option<usize>]| windows.iter().map(|window| (*window, Rotary::Main)).collect::<Vec<_>>();
    let mistral = open("mistral");
    assert_eq!(mistral.config().family, Family::Mistral);
    assert_eq!(layers(mistral.config()), main(&[Some(9); 4]));
    let qwen2 = open("qwen2_window");
    assert_eq!(layers(qwen2.config()), main(&[None, None, Some(7), Some(7)]));
    assert!(qwen2.config().qkv_bias);
    assert_eq!(layers(open("phi3").config()), main(&[Some(10); 4]));
    assert_eq!(layers(open("gemma2").config()), main(&[Some(8), None, Some(8), None]));
    let (local, global) = ((Some(6), Rotary::Local), (None, Rotary::Main));
    assert_eq!(layers(open("gemma3").config()), [local, local, local, local, local, global, local]);
    let (turned, not) = ((None, Rotary::Main), (None, Rotary::None));
    assert_eq!(layers(open("smollm3").config()), [turned, turned, turned, not, turned]);
}

#[test]
fn qwen3_has_norms_over_its_heads() {
    let model = open("qwen3");
    let config = model.config();
    assert!(config.qk_norm && !config.qkv_bias && !config.unit_offset_norms);
    assert_eq!((config.family, config.head_dim, config.hidden_size), (Family::Qwen3, 16, 40));
    assert_eq!(config.sublayer_norms, SublayerNorms::Before);
    let names: Vec<_> = config.weights().into_iter().filter(|(name, _)| name.contains("layers.3.")).collect();
    assert!(names.contains(&("model.layers.3.self_attn.q_norm.weight".to_owned(), vec![16])));
    assert_eq!(names.len(), 2 + 2 + 7);
    assert_eq!(read(&changed("qwen3", json!({"head_dim": null}))).unwrap().head_dim, 128);
}

#[test]
fn gemma_scales_caps_and_norms() {
    let two = open("gemma2").config().clone();
    let of = |factor: Option<f32>| factor.unwrap();
    assert_eq!((of(two.attention_softcap), of(two.logit_softcap)), (2.5, 3.0));
    assert_eq!((of(two.attention_scale), of(two.embedding_scale)), (24f64.powf(-0.5) as f32, 32f32.sqrt()));
    assert_eq!((two.activation, two.sublayer_norms), (Activation::GeluTanh, SublayerNorms::Around));
    assert!(two.unit_offset_norms && two.tie_word_embeddings && !two.qk_norm);
    assert_eq!(two.local_rope, None);

    let three = open("gemma3").config().clone();
    assert_eq!((three.attention_softcap, three.logit_softcap), (None, None));
    assert_eq!(of(three.attention_scale), 12f64.powf(-0.5) as f32);
    assert!(three.unit_offset_norms && three.tie_word_embeddings && three.qk_norm);
    assert_eq!(three.rope, Rope { theta: 1e6, scaling: RopeScaling::Linear { factor: 8.0 } });
    assert_eq!(three.local_rope, Some(Rope { theta: 1e4, scaling: RopeScaling::None }));
}

#[test]
fn fused_projections_are_read_one_by_one() {
    let model = open("phi3");
    let mut fused = Vec::new();
    for (matrix, parts, outputs) in [
        (
            "self_attn.qkv_proj",
            &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"][..],
            &[32, 16, 16][..],
        ),
        ("mlp.gate_up_proj", &["mlp.gate_proj", "mlp.up_proj"], &[40, 40]),
    ] {
        let mut together = Vec::new();
        for (part, outputs) in parts.iter().zip(outputs) {
            let mut values = Vec::new();
            let shape = model.read(&format!("model.layers.2.{part}.weight"), &mut values).unwrap();
            assert_eq!(shape, [*outputs, 32]);
            together.extend(values);
        }
        model.read(&format!("model.layers.2.{matrix}.weight"), &mut fused).unwrap();
        assert!(together == fused, "{matrix}");
    }
}

#[test]
fn gguf_files_hold_the_weights_of_the_folders() {
    for name in FAMILIES {
        let (folder, gguf) = (open(name), open(&format!("{name}/model.gguf")));
        let offset = folder.config().unit_offset_norms;
        for ((name, left), (same, right)) in weights(&folder).into_iter().zip(weights(&gguf)) {
            assert_eq!(name, same);
            let tolerance = if offset && name.ends_with("norm.weight") { NORM_TOLERANCE } else { 0.0 };
            let distance =
                left.iter().zip(&right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max);
            assert!(distance <= tolerance, "{name}: {distance}");
        }
    }
}

#[test]
fn gguf_files_say_what_config_json_says() {
    for name in FAMILIES {
        let mut folder = open(name).config().clone();
        let gguf = open(&format!("{name}/model.gguf")).config().clone();
        // What the converter was given no tokenizer for, and what no key says.
        (folder.bos_token_id, folder.pad_token_id, folder.eos_token_ids) = (None, None, Vec::new());
        match name {
            "mistral" => folder.family = Family::Llama,
            "gemma2" => folder.attention_scale = Some(0.25),
            "gemma3" => folder.attention_scale = Some(8f64.powf(-0.5) as f32),
            _ => {}
        }
        if ["mistral", "qwen2_window"].contains(&name) {
            folder.layer_attention.fill(LayerAttention::default());
        }
        assert_eq!(gguf, folder, "{name}");
    }
}

#[test]
fn saved_models_are_the_same() {
    for name in FAMILIES {
        for path in [folder(name), folder(name).join("model.gguf")] {
            let (model, saved) = (Model::open(&path).unwrap(), tempfile::tempdir().unwrap());
            model.save(saved.path(), SaveOptions::default()).unwrap();
            let again = Model::open(saved.path()).unwrap();
            assert_eq!(model.config(), again.config(), "{}", path.display());
            assert!(weights(&model) == weights(&again), "{}", path.display());
        }
    }
}

#[test]
fn what_transformers_wrote_is_written_back_to_the_byte() {
    for name in FAMILIES {
        let saved = tempfile::tempdir().unwrap();
        let options = SaveOptions { stored: StoredType::Bf16, ..SaveOptions::default() };
        open(name).save(saved.path(), options).unwrap();
        let read = |folder: &Path, file: &str| std::fs::read(folder.join(file)).unwrap();
        let weights = |folder: &Path| read(folder, "model.safetensors");
        assert!(weights(&folder(name)) == weights(saved.path()), "{name}");
        let config =
            |folder: &Path| -> Value { serde_json::from_slice(&read(folder, "config.json")).unwrap() };
        assert_eq!(config(&folder(name)), config(saved.path()));
    }
}

#[test]
fn all_weights_are_trained_and_saved() {
    for name in FAMILIES {
        let (model, saved) = (open(name), tempfile::tempdir().unwrap());
        let mut full = FullWeights::read(&model).unwrap();
        for (name, values) in weights(&model) {
            let slot = full.layout.slots.iter().find(|slot| slot.name == name).unwrap();
            assert!(full.values[slot.range.clone()] == values, "{name}");
        }
        assert_eq!(full.layout.slots.len(), model.config().weights().len());
        full.values.iter_mut().for_each(|value| *value = value.mul_add(1.7, 1e-3));
        let trainable = Trainable::from(full);
        trainable.save(saved.path()).unwrap();
        assert!(trainable.load_like(saved.path(), model.config()).unwrap() == trainable, "{name}");
    }
}

#[test]
fn older_spellings_mean_the_same() {
    let same = |name: &str, changes: Value| {
        let config = read(&changed(name, changes)).unwrap();
        assert_eq!(config, *open(name).config(), "{name}");
    };
    same(
        "smollm3",
        json!({"no_rope_layers": null, "layer_types": null, "rope_parameters": null, "rope_theta": 1e4}),
    );
    same(
        "gemma2",
        json!({
            "layer_types": null, "hidden_activation": null, "hidden_act": "gelu", "tie_word_embeddings": null,
            "rope_parameters": null,
        }),
    );
    same(
        "gemma3",
        json!({
            "layer_types": null, "sliding_window_pattern": 6, "rope_parameters": null, "rope_theta": 1e6,
            "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        }),
    );
    same(
        "qwen2_window",
        json!({"layer_types": null, "rope_parameters": null, "rope_theta": 1e4, "rope_scaling": {}}),
    );
    same("phi3", json!({"rope_parameters": null, "rope_theta": 1e4}));
}

#[test]
fn defaults_are_those_of_transformers() {
    let windowless = json!({"sliding_window": null, "use_sliding_window": null, "layer_types": null});
    assert_eq!(layers(&read(&changed("mistral", windowless.clone())).unwrap())[0].0, Some(4096));
    assert_eq!(layers(&read(&changed("gemma2", windowless.clone())).unwrap())[0].0, Some(4096));
    for name in ["qwen2_window", "qwen3", "smollm3", "phi3"] {
        let config = read(&changed(name, windowless.clone())).unwrap();
        assert!(layers(&config).iter().all(|(window, _)| window.is_none()), "{name}");
    }
    let caps = json!({
        "attn_logit_softcapping": null, "final_logit_softcapping": null, "query_pre_attn_scalar": null,
        "max_position_embeddings": null,
    });
    let config = read(&changed("gemma2", caps)).unwrap();
    assert_eq!((config.attention_softcap, config.logit_softcap), (Some(50.0), Some(30.0)));
    assert_eq!((config.attention_scale, config.max_position_embeddings), (Some(0.0625), 8192));
    let ropes = json!({"rope_parameters": null, "max_position_embeddings": null});
    let config = read(&changed("gemma3", ropes)).unwrap();
    assert_eq!((config.rope.theta, config.local_rope.unwrap().theta), (1e6, 1e4));
    assert_eq!(config.max_position_embeddings, 131_072);
    let config = read(&changed("phi3", json!({"rms_norm_eps": null}))).unwrap();
    assert_eq!((config.rms_norm_eps, config.tie_word_embeddings), (1e-5, false));
}

/// The fixture `gemma3` as the text's part of a model that reads pictures too, its weights' names beginning with
/// `prefix`.
fn nest(prefix: &str, folder_of_all: &Path) {
    let bytes = std::fs::read(folder("gemma3").join("model.safetensors")).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..data]).unwrap();
    let rename = |(name, tensor): (String, Value)| match name.strip_prefix("model.") {
        Some(rest) => (format!("{prefix}{rest}"), tensor),
        None => (name, tensor),
    };
    let header = serde_json::to_vec(&header.into_iter().map(rename).collect::<Map<_, _>>()).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length[..], &header, &bytes[data..]].concat();
    common::write(&folder_of_all.join("model.safetensors"), &file);
    let text = changed("gemma3", json!({"eos_token_id": null, "architectures": null}));
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text,
        "eos_token_id": [2, 9], "vision_config": {"hidden_size": 16}, "dtype": "bfloat16",
    });
    common::write(&folder_of_all.join("config.json"), config.to_string().as_bytes());
}

#[test]
fn the_text_part_of_a_model_that_sees_is_read_and_saved_alone() {
    let plain = open("gemma3");
    let expected = DecoderConfig { eos_token_ids: vec![2, 9], ..plain.config().clone() };
    for prefix in ["language_model.model.", "model.language_model."] {
        let (whole, saved) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        nest(prefix, whole.path());
        let model = Model::open(whole.path()).unwrap();
        assert_eq!(*model.config(), expected);
        assert!(weights(&model) == weights(&plain), "{prefix}");
        model.save(saved.path(), SaveOptions { stored: StoredType::Bf16, ..SaveOptions::default() }).unwrap();
        let read = |folder: &Path, file: &str| std::fs::read(folder.join(file)).unwrap();
        let (old, new) = (folder("gemma3"), saved.path());
        assert!(read(&old, "model.safetensors") == read(new, "model.safetensors"));
        let config: Value = serde_json::from_slice(&read(new, "config.json")).unwrap();
        assert_eq!(config, changed("gemma3", json!({"eos_token_id": [2, 9]})));
    }
}

#[test]
fn a_model_that_sees_leaves_out_what_is_usual() {
    let text = changed(
        "gemma3",
        json!({
            "vocab_size": null, "num_attention_heads": null, "num_key_value_heads": null, "head_dim": null,
        }),
    );
    let whole = |architecture: &str| json!({"architectures": [architecture], "text_config": text});
    let config = read(&whole("Gemma3ForConditionalGeneration")).unwrap();
    assert_eq!((config.vocab_size, config.head_dim), (262_208, 256));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads), (8, 4));
    let error = read(&whole("LlavaForConditionalGeneration")).unwrap_err();
    assert!(
        error.to_string().ends_with("models of the kind `LlavaForConditionalGeneration` are not supported")
    );
}

#[test]
fn a_reward_model_of_gemma3_is_named_as_transformers_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = open("gemma3").with_heads(OutputHeads::Score, 1).unwrap();
    model.save(folder.path(), SaveOptions::default()).unwrap();
    let text = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["architectures"], json!(["Gemma3TextForSequenceClassification"]));
    assert_eq!(Model::open(folder.path()).unwrap().config(), model.config());
}

#[test]
fn what_cannot_be_is_refused() {
    let mut text = vec![refusals(
        "gemma3",
        [
            json!({"attn_logit_softcapping": 50.0}),
            json!({"use_bidirectional_attention": true}),
            json!({"hidden_activation": "relu"}),
            json!({"layer_types": ["full_attention"]}),
            json!({"layer_types": ["chunked_attention"]}),
            json!({"query_pre_attn_scalar": 0}),
            json!({"sliding_window": 0}),
        ],
    )];
    text.push(refusals(
        "smollm3",
        [json!({"no_rope_layers": [1]}), json!({"no_rope_layers": null, "no_rope_layer_interval": 0})],
    ));
    text.push(refusals("gemma2", [json!({"attn_logit_softcapping": -1.0})]));
    text.push(refusals("phi3", [
        json!({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0], "long_factor": [2.0]}}),
        json!({"rope_parameters": null, "rope_scaling": {"type": "su"}}),
        json!({"partial_rotary_factor": 0.75}),
    ]));
    insta::assert_snapshot!(text.join("\n\n"), @"
    `attn_logit_softcapping` is 50, which is not supported
    help: Gemma 3 has none: set it to null

    `use_bidirectional_attention` is true, which is not supported
    help: a decoder's tokens see what stands before them, and nothing else

    `hidden_activation` is relu, which is not supported
    help: supported activations: silu, gelu_pytorch_tanh

    `layer_types` should be a list of 7 kinds, one a layer, but is one of 1
    help: correct it there; a file that came from elsewhere can be fetched again

    `layer_types` is chunked_attention, which is not supported
    help: supported kinds: full_attention, sliding_attention

    `query_pre_attn_scalar` should be a number above 0, within f32, but is inf
    help: correct it there; a file that came from elsewhere can be fetched again

    `sliding_window` should be 1 or more, but is 0
    help: correct it there; a file that came from elsewhere can be fetched again

    `no_rope_layers` should be a list of 5 numbers, one a layer, but is one of 1
    help: correct it there; a file that came from elsewhere can be fetched again

    `no_rope_layer_interval` should be 1 or more, but is 0
    help: correct it there; a file that came from elsewhere can be fetched again

    `attn_logit_softcapping` should be a number above 0, within f32, but is -1
    help: correct it there; a file that came from elsewhere can be fetched again

    `rope_type` is longrope, which is not supported
    help: take a model for texts of 4096 tokens, such as Phi-3-mini-4k-instruct

    `rope_type` is su, which is not supported
    help: take a model for texts of 4096 tokens, such as Phi-3-mini-4k-instruct

    `partial_rotary_factor` is 0.75, which is not supported
    help: the rotary embedding must cover whole heads
    ");
}
