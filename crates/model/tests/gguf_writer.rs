//! What is written as GGUF is read back as the same model; where `COLLIMATE_TEST_PYTHON` names a Python with `gguf` and
//! `llama_cpp`, llama.cpp reads it and makes the same bytes itself.
#![allow(clippy::disallowed_methods, reason = "what a test makes need not outlive a kill")]

use crate::common;
use crate::gguf::GgufBytes;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use collimate_kernels::quant::encode;
use collimate_model::gguf::{GgufType, write, write_adapter};
use collimate_model::{Lora, LoraConfig, Model, SaveOptions, Tokenizer};
use collimate_run::random::stream;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// A folder with a random model, and the tokenizer of this name in `fixtures/tokenizer`. Its rows are whole blocks of
/// every kind but those of the down projections; the fields replace those of its `config.json`.
fn random_model(tokenizer: &str, fields: Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 256, "intermediate_size": 160, "vocab_size": 645, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2,
    });
    for (name, value) in fields.as_object().unwrap() {
        config[name] = value.clone();
    }
    for entry in std::fs::read_dir(common::fixture("tokenizer").join(tokenizer)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let decoder = collimate_model::DecoderConfig::read(&folder.path().join("config.json")).unwrap();
    let mut random = stream(7, &[]);
    // A sum of four draws: near enough to normal.
    let mut draw = || (0..4).map(|_| random.random() - 0.5).sum::<f64>() * 0.1;
    let numbers = |(name, shape): (String, Vec<usize>)| {
        let shift = if name.contains("norm") { 1.0 } else { 0.0 };
        let count = shape.iter().product::<usize>();
        let bytes: Vec<u8> = (0..count).flat_map(|_| ((draw() + shift) as f32).to_le_bytes()).collect();
        (name, shape, bytes)
    };
    let weights: Vec<_> = decoder.weights().into_iter().map(numbers).collect();
    let views = weights.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

fn read(model: &Model, name: &str) -> Vec<f32> {
    let mut numbers = Vec::new();
    model.read(name, &mut numbers).unwrap();
    numbers
}

fn assert_same_bits(name: &str, left: &[f32], right: &[f32]) {
    let same = left.iter().zip(right).all(|(left, right)| left.to_bits() == right.to_bits());
    assert!(same && left.len() == right.len(), "{name} differs");
}

const TEXTS: [&str; 4] = [
    "Hello, world!",
    "  It's 12345 things\n\n\tand `code();`",
    "naïve café ☕ 你好 🙂",
    "<s>x</s><|im_start|>a",
];

fn assert_same_tokenizer(left: &Tokenizer, right: &Tokenizer) {
    for text in TEXTS {
        for special in [false, true] {
            assert_eq!(left.encode(text, special).unwrap(), right.encode(text, special).unwrap(), "{text:?}");
        }
    }
    assert_eq!(
        left.chat_template().map(|template| template.sources().clone()),
        right.chat_template().map(|template| template.sources().clone())
    );
    let named = |tokenizer: &Tokenizer| [tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()];
    assert_eq!(named(left), named(right));
}

/// Runs `fixtures/gguf_roundtrip.py`, which must succeed, where there is a Python for it.
fn run_python(arguments: &[&Path]) {
    let Some(python) = std::env::var_os("COLLIMATE_TEST_PYTHON") else {
        eprintln!("skipped: COLLIMATE_TEST_PYTHON names no Python with gguf and llama_cpp");
        return;
    };
    let script = common::fixture("gguf_roundtrip.py");
    let said = Command::new(python).arg(script).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{out}\n{err}");
    eprintln!("{out}");
}

/// The first cases are the tokenizers and rotary embeddings, the others are families.
const PLAIN_CASES: usize = 4;

fn cases() -> Vec<(&'static str, Value)> {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    let family = |class: &str, kind: &str, more: Value| {
        let mut fields = json!({
            "architectures": [format!("{class}ForCausalLM")], "model_type": kind, "head_dim": 64, "pad_token_id": 0,
            "sliding_window": null,
        });
        for (name, value) in more.as_object().unwrap() {
            fields[name] = value.clone();
        }
        ("bytes", fields)
    };
    let gemma = |window: usize| {
        json!({
            "query_pre_attn_scalar": 64, "sliding_window": window, "hidden_activation": "gelu_pytorch_tanh",
            "num_hidden_layers": 7, "tie_word_embeddings": true,
        })
    };
    let qwen2 =
        json!({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": true});
    vec![
        ("bytes", json!({"tie_word_embeddings": true})),
        ("pieces", json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}})),
        ("words", qwen2),
        ("bytes", json!({"rope_scaling": llama3})),
        family("Mistral", "mistral", json!({})),
        family("Qwen3", "qwen3", json!({})),
        family("SmolLM3", "smollm3", json!({"no_rope_layer_interval": 4, "num_hidden_layers": 5})),
        family("Gemma2", "gemma2", gemma(16)),
        family("Gemma3", "gemma3_text", gemma(16)),
        family("Phi3", "phi3", json!({})),
    ]
}

#[test]
fn a_file_of_f32_is_the_same_model() {
    for (tokenizer, fields) in cases() {
        let folder = random_model(tokenizer, fields);
        let path = folder.path().join("model.gguf");
        let model = Model::open(folder.path()).unwrap();
        let report = write(&model, None, &path, GgufType::F32).unwrap();
        let back = Model::open(&path).unwrap();
        let (mut before, mut after) = (model.config().clone(), back.config().clone());
        let frequencies = [&before, &after].map(|decoder| decoder.rope.frequencies(decoder.head_dim).0);
        for (left, right) in frequencies[0].iter().zip(&frequencies[1]) {
            assert!((left - right).abs() <= 2.0 * f32::EPSILON * left, "{left} became {right}");
        }
        before.rope = after.rope.clone();
        // Llama and Mistral are one in GGUF files.
        before.family = after.family;
        // A file names only the first; a folder's tokenizer goes before its configuration.
        for decoder in [&mut before, &mut after] {
            (decoder.bos_token_id, decoder.pad_token_id) = (None, None);
            decoder.eos_token_ids.clear();
        }
        assert_eq!(before, after);
        for (name, _) in model.config().weights() {
            let (before, mut after) = (read(&model, &name), read(&back, &name));
            if model.config().unit_offset_norms && name.contains("norm.") {
                // 1 is added and taken away again.
                let near = before.iter().zip(&after).all(|(left, right)| (left - right).abs() < 3e-7);
                assert!(near, "{name} differs");
                after.clone_from(&before);
            }
            assert_same_bits(&name, &before, &after);
        }
        assert_same_tokenizer(&model.tokenizer().unwrap(), &back.tokenizer().unwrap());
        assert_eq!(report.bytes, std::fs::metadata(&path).unwrap().len());
        assert_eq!(report.tensors.keys().copied().collect::<Vec<_>>(), ["F32"]);
        assert_eq!(report.fell_back, 0);
    }
}

#[test]
fn every_type_holds_what_its_quantiser_makes() {
    let folder = random_model("bytes", json!({}));
    let model = Model::open(folder.path()).unwrap();
    let path = folder.path().join("model.gguf");
    let mut reports = Vec::new();
    for kind in GgufType::ALL {
        let report = write(&model, None, &path, kind).unwrap();
        let counts: Vec<_> = report.tensors.iter().map(|(name, count)| format!("{name} {count}")).collect();
        reports.push(format!("{kind}: {}, fell back {}", counts.join(", "), report.fell_back));
        let back = Model::open(&path).unwrap();
        for (name, shape) in model.config().weights() {
            let (weights, stored) = (read(&model, &name), read(&back, &name));
            let expected: Vec<f32> = match (back.blocks(&name).unwrap(), kind) {
                (Some(blocks), _) => {
                    let mut bytes = Vec::new();
                    encode(blocks.kind, &weights, &mut bytes).unwrap();
                    assert!(bytes == blocks.bytes, "{kind}: {name} differs");
                    continue;
                }
                (None, GgufType::F16) if shape.len() == 2 => {
                    weights.iter().map(|weight| f16::from_f32(*weight).to_f32()).collect()
                }
                (None, GgufType::Bf16) if shape.len() == 2 => {
                    weights.iter().map(|weight| bf16::from_f32(*weight).to_f32()).collect()
                }
                (None, _) => weights,
            };
            assert_same_bits(&name, &expected, &stored);
        }
    }
    insta::assert_snapshot!(reports.join("\n"));
}

#[test]
fn what_a_file_says_and_its_blocks_are_kept() {
    let folder = random_model("pieces", json!({}));
    let [first, second] = ["first.gguf", "second.gguf"].map(|name| folder.path().join(name));
    write(&Model::open(folder.path()).unwrap(), None, &first, GgufType::Q4KM).unwrap();
    let model = Model::open(&first).unwrap();
    write(&model, None, &second, GgufType::Q4KM).unwrap();
    let again = Model::open(&second).unwrap();
    assert_eq!(model.config(), again.config());
    assert_same_tokenizer(&model.tokenizer().unwrap(), &again.tokenizer().unwrap());
    for (name, _) in model.config().weights() {
        assert_eq!(model.blocks(&name).unwrap(), again.blocks(&name).unwrap());
        assert_same_bits(&name, &read(&model, &name), &read(&again, &name));
    }
    // Files that others made, with keys that are not known here.
    for name in ["tiny-llama.gguf", "tiny-qwen2.gguf", "tokenizer/pieces.gguf"] {
        let Ok(model) = Model::open(&common::fixture(name)) else { continue };
        write(&model, None, &second, GgufType::F32).unwrap();
        let again = Model::open(&second).unwrap();
        assert_eq!(model.config(), again.config());
        for (name, _) in model.config().weights() {
            assert_same_bits(&name, &read(&model, &name), &read(&again, &name));
        }
    }
}

#[test]
fn how_a_file_was_quantised_is_not_said_of_another() {
    let pair = |key: &str, value: &str| GgufBytes::default().text_pair(key, value).0;
    let mut added = pair("quantize.imatrix.file", "imatrix.dat");
    let rest = (added.len() + pair("general.quantized_by", "").len()) % 32;
    added.extend(pair("general.quantized_by", &"x".repeat(32 - rest)));
    let mut bytes = std::fs::read(common::fixture("tiny-llama.gguf")).unwrap();
    // Behind magic, version and number of tensors stands that of the pairs, and then they.
    bytes[16] += 2;
    bytes.splice(24..24, added);
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first.gguf", "second.gguf"].map(|name| folder.path().join(name));
    std::fs::write(&first, bytes).unwrap();
    write(&Model::open(&first).unwrap(), None, &second, GgufType::F16).unwrap();
    let model = Model::open(&second).unwrap();
    let metadata = model.gguf_metadata().unwrap();
    assert!(metadata.has("general.architecture"));
    assert!(!metadata.has("quantize.imatrix.file") && !metadata.has("general.quantized_by"));
}

#[test]
fn a_window_that_llama_cpp_passes_over_is_reported() {
    let window = |kind: &str, window: usize| {
        let (_, mut fields) = cases().into_iter().find(|(_, fields)| fields["model_type"] == kind).unwrap();
        fields["sliding_window"] = json!(window);
        let folder = random_model("bytes", fields);
        let path = folder.path().join("model.gguf");
        let model = Model::open(folder.path()).unwrap();
        write(&model, None, &path, GgufType::F32).unwrap().unheeded_window
    };
    assert_eq!(window("phi3", 100), Some(100));
    assert_eq!(window("phi3", 512), None);
    assert_eq!(window("gemma2", 100), None);
}

#[test]
fn what_llama_cpp_cannot_compute_is_refused() {
    let folder = random_model("bytes", json!({}));
    let path = folder.path().join("model.gguf");
    let refused = |fields: Value, kind| {
        let folder = random_model("bytes", fields);
        let error = write(&Model::open(folder.path()).unwrap(), None, &path, kind).unwrap_err();
        common::text(&error, folder.path())
    };
    let yarn = json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5}});
    let few_rows = json!({"vocab_size": 400});
    let window =
        json!({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 128});
    let scalar =
        json!({"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "query_pre_attn_scalar": 32});
    let mut texts: Vec<String> =
        [yarn, few_rows, window, scalar].into_iter().map(|fields| refused(fields, GgufType::F32)).collect();
    let tokenizer = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&tokenizer).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    changed["pre_tokenizer"] = json!({"type": "Whitespace"});
    std::fs::write(&tokenizer, changed.to_string()).unwrap();
    let model = Model::open(folder.path()).unwrap();
    texts.push(common::text(&write(&model, None, &path, GgufType::F32).unwrap_err(), folder.path()));
    std::fs::remove_file(&tokenizer).unwrap();
    texts.push(common::text(&write(&model, None, &path, GgufType::F32).unwrap_err(), folder.path()));
    let scored = model.with_heads(collimate_model::OutputHeads::Both, 1).unwrap();
    texts.push(common::text(&write(&scored, None, &path, GgufType::F32).unwrap_err(), folder.path()));
    assert!(!path.exists());
    let folder = random_model("bytes", json!({"vocab_size": 645, "rms_norm_eps": 1e-5}));
    let weights = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    // Behind the header, whose length stands before it, lies the head.
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let broken = Model::open(folder.path()).unwrap();
    texts.push(common::text(&write(&broken, None, &path, GgufType::Q8_0).unwrap_err(), folder.path()));
    assert!(write(&broken, None, &path, GgufType::Bf16).is_ok());
    texts.push("Q3_K".parse::<GgufType>().unwrap_err());
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn types_are_known_by_llama_cpps_names() {
    for kind in GgufType::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(serde_json::from_value::<GgufType>(serde_json::to_value(kind).unwrap()).unwrap(), kind);
    }
    assert_eq!("q4_k".parse(), Ok(GgufType::Q4KM));
}

/// Writes what the script looks at into the folder: each model as f32 and quantised, what it should be, an adapter.
fn write_for_python(folder: &Path) {
    let mut expected = Vec::new();
    for (index, (source_name, fields)) in cases().into_iter().enumerate() {
        let source = random_model(source_name, fields);
        let model = Model::open(source.path()).unwrap();
        let some = [GgufType::F32, GgufType::Q8_0, GgufType::Q4KM];
        for kind in if index < PLAIN_CASES { GgufType::ALL.as_slice() } else { &some } {
            write(&model, None, &folder.join(format!("{index}-{kind}.gguf")), *kind).unwrap();
        }
        model.save(&folder.join(index.to_string()), SaveOptions::default()).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        tokenizer.save(&folder.join(index.to_string())).unwrap();
        // llama.cpp puts a blank before a text with blanks too, where its tokenizer is SentencePiece's.
        let texts = TEXTS[..3].iter().filter(|text| source_name != "pieces" || !text.starts_with(' '));
        let ids: HashMap<&str, Vec<u32>> =
            texts.map(|text| (*text, tokenizer.encode(text, true).unwrap())).collect();
        expected.push(json!({"ids": ids}));
    }
    let lora: PathBuf = common::fixture("adapter");
    let model = Model::open(&common::fixture("tiny-llama")).unwrap();
    let lora = Lora::load(&lora, model.config()).unwrap();
    write_adapter(&lora, model.config(), &folder.join("adapter.gguf")).unwrap();
    std::fs::write(folder.join("expected.json"), json!(expected).to_string()).unwrap();
}

#[test]
fn an_adapter_is_written_with_its_products() {
    let model = Model::open(&common::fixture("tiny-llama")).unwrap();
    let lora = Lora::load(&common::fixture("adapter"), model.config()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    write_adapter(&lora, model.config(), &path).unwrap();
    let error = Model::open(&path).unwrap_err().to_string();
    assert!(error.contains("llama"), "{error}");
    let scored = lora.clone().with_score(model.config(), 1);
    let error = write_adapter(&scored, model.config(), &path).unwrap_err();
    insta::assert_snapshot!(common::text(&error, folder.path()));
    let dora = LoraConfig { use_dora: true, ..lora.config.clone() };
    let whole = LoraConfig { modules_to_save: Some(vec!["embed_tokens".to_owned()]), ..lora.config };
    for config in [dora, whole] {
        let lora = Lora::beside(config, &model, 1).unwrap();
        let refusal = write_adapter(&lora, model.config(), &path).unwrap_err();
        assert_eq!(refusal.to_string(), error.to_string());
    }
}

#[test]
fn llama_cpp_opens_the_files_and_makes_the_same_bytes() {
    if std::env::var_os("COLLIMATE_TEST_PYTHON").is_none() {
        eprintln!("skipped: COLLIMATE_TEST_PYTHON names no Python with gguf and llama_cpp");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_for_python(folder.path());
    run_python(&[folder.path(), &common::fixture("adapter")]);
}

/// The texts were recorded from transformers, and are what is written here too.
#[test]
fn real_models_write_the_same_text_in_llama_cpp() {
    let Some(models) = common::real_models() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for name in ["smol", "qwen"] {
        write(&Model::open(&models.join(name)).unwrap(), None, &path, GgufType::F32).unwrap();
        let recorded = format!("{}/../../fixtures/real/greedy_{name}.json.gz", env!("CARGO_MANIFEST_DIR"));
        run_python(&[&path, Path::new(&recorded)]);
    }
}
