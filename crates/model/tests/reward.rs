//! Scalar heads: reward models as transformers saves them, adapters of them as PEFT does, heads that change.

use crate::common;
use std::path::{Path, PathBuf};

use collimate_model::{
    DecoderConfig, FullWeights, Lora, LoraConfig, Model, OutputHeads, SaveOptions, Targets, Trainable,
};
use serde_json::{Map, Value, json};

fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn open(name: &str) -> Model {
    Model::open(&shared(name)).unwrap()
}

fn json(path: &Path) -> Map<String, Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn score(model: &Model) -> Vec<f32> {
    let mut values = Vec::new();
    assert_eq!(model.read("score.weight", &mut values).unwrap(), [1, model.config().hidden_size]);
    values
}

/// The names of the tensors in a file.
fn names(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<String> = file.names().into_iter().map(ToString::to_string).collect();
    names.sort();
    names
}

fn scoring(task: &str, modules_to_save: Option<&[&str]>) -> LoraConfig {
    LoraConfig {
        task_type: Some(task.to_owned()),
        target_modules: Some(Targets::Names(vec!["q_proj".to_owned()])),
        modules_to_save: modules_to_save.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
        ..LoraConfig::default()
    }
}

#[test]
fn a_reward_model_is_opened_and_saved_as_transformers_does() {
    let (path, folder) = (shared("reward/model"), tempfile::tempdir().unwrap());
    let model = Model::open(&path).unwrap();
    assert_eq!(model.config().output_heads, OutputHeads::Score);
    assert!(!model.config().weights().iter().any(|(name, _)| name == "lm_head.weight"));
    model.save(folder.path(), SaveOptions::default()).unwrap();
    let mut config = json(&path.join("config.json"));
    config.insert("dtype".to_owned(), json!("float32"));
    assert_eq!(json(&folder.path().join("config.json")), config);
    let file = "model.safetensors";
    assert_eq!(names(&folder.path().join(file)), names(&path.join(file)));
    assert_eq!(score(&Model::open(folder.path()).unwrap()), score(&model));
    // All weights in one vector are those weights.
    let full = Trainable::from(FullWeights::read(&model).unwrap());
    assert!(full.values().ends_with(&score(&model)));
    full.save(folder.path()).unwrap();
    assert!(full.load_like(folder.path(), model.config()).unwrap() == full);
}

#[test]
fn a_fresh_head_makes_a_reward_model_of_one_that_writes() {
    for (name, architecture) in
        [("tiny/llama", "Llama"), ("tiny/llama_untied_llama3rope", "Llama"), ("tiny/qwen2", "Qwen2")]
    {
        let folder = tempfile::tempdir().unwrap();
        let model = open(name).with_heads(OutputHeads::Score, 7).unwrap();
        let head = score(&model);
        let deviation = (head.iter().map(|x| x * x).sum::<f32>() / head.len() as f32).sqrt();
        // 48 to 64 draws of N(0, 0.02): the deviation's own is about a tenth of it.
        assert!((0.012..0.028).contains(&deviation), "{deviation}");
        assert_eq!(score(&open(name).with_heads(OutputHeads::Score, 7).unwrap()), head);
        assert_ne!(score(&open(name).with_heads(OutputHeads::Score, 8).unwrap()), head);
        // A head that is there stays.
        let model = model.with_heads(OutputHeads::Score, 9).unwrap();
        assert_eq!(score(&model), head);
        FullWeights::read(&model).unwrap().save(folder.path()).unwrap();
        let config = json(&folder.path().join("config.json"));
        assert_eq!(config["architectures"], json!([format!("{architecture}ForSequenceClassification")]));
        assert_eq!(
            (&config["id2label"], &config["label2id"]),
            (&json!({"0": "LABEL_0"}), &json!({"LABEL_0": 0}))
        );
        assert!(!folder.path().join("generation_config.json").exists());
        let saved = Model::open(folder.path()).unwrap();
        assert_eq!((saved.config(), score(&saved)), (model.config(), head));
        assert!(saved.with_heads(OutputHeads::Both, 0).is_err());
    }
}

#[test]
fn a_policy_has_a_scalar_head_while_it_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let plain = FullWeights::read(&open("tiny/llama_untied_llama3rope")).unwrap();
    let model = open("tiny/llama_untied_llama3rope").with_heads(OutputHeads::Both, 1).unwrap();
    let policy = Trainable::from(FullWeights::read(&model).unwrap());
    policy.save(folder.path()).unwrap();
    assert!(policy.load_like(folder.path(), model.config()).unwrap() == policy);
    assert_eq!(json(&folder.path().join("config.json"))["architectures"], json!(["LlamaForCausalLM"]));
    assert!(policy.without_score() == Trainable::from(plain));
}

#[test]
fn an_adapter_with_a_head_is_read_and_written_as_peft_does() {
    let (path, folder) = (shared("reward/adapter"), tempfile::tempdir().unwrap());
    let lora = Lora::load(&path, open("tiny/llama").config()).unwrap();
    assert!(lora.config.is_classifier());
    let place = lora.score.clone().unwrap();
    assert_eq!((place.len(), place.end), (64, lora.values.len()));
    lora.save(folder.path()).unwrap();
    let (config, file) = ("adapter_config.json", "adapter_model.safetensors");
    assert_eq!(json(&folder.path().join(config)), json(&path.join(config)));
    assert_eq!(names(&folder.path().join(file)), names(&path.join(file)));
    assert!(names(&path.join(file)).contains(&"base_model.model.score.weight".to_owned()));
    let tensors = |folder: &Path| {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = read.tensor("base_model.model.score.weight").unwrap();
        (view.shape().to_vec(), view.data().to_vec())
    };
    assert_eq!(tensors(folder.path()), tensors(&path));
    assert_eq!(Lora::load(folder.path(), open("tiny/llama").config()).unwrap(), lora);
}

#[test]
fn a_fresh_adapter_has_a_head_where_it_is_asked_for() {
    let model = open("tiny/llama");
    let new = |config: LoraConfig| Lora::new(config, model.config(), 3).unwrap();
    let plain = new(scoring("CAUSAL_LM", None));
    assert_eq!(plain.score, None);
    for (task, modules) in
        [("SEQ_CLS", Some(&["score"][..])), ("SEQ_CLS", None), ("CAUSAL_LM", Some(&["score"]))]
    {
        let lora = new(scoring(task, modules));
        let place = lora.score.clone().unwrap();
        assert_eq!(place, plain.values.len()..plain.values.len() + 64);
        assert_eq!(lora.values[..place.start], plain.values);
        assert_eq!(lora.values[place], score(&open("tiny/llama").with_heads(OutputHeads::Score, 3).unwrap()));
        assert_eq!(lora.without_score(), plain, "{task}");
    }
}

#[test]
fn a_merged_head_becomes_the_models() {
    let lora = Lora::load(&shared("reward/adapter"), open("tiny/llama").config()).unwrap();
    let head = lora.values[lora.score.clone().unwrap()].to_vec();
    let model = open("tiny/llama").merged(lora.clone()).unwrap();
    assert_eq!((model.config().output_heads, score(&model)), (OutputHeads::Score, head.clone()));
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), SaveOptions::default()).unwrap();
    let saved = Model::open(folder.path()).unwrap();
    assert_eq!((saved.config(), score(&saved)), (model.config(), head.clone()));

    let mut policy = lora.clone();
    policy.config.task_type = Some("CAUSAL_LM".to_owned());
    let policy = open("tiny/llama").merged(policy).unwrap();
    assert_eq!((policy.config().output_heads, score(&policy)), (OutputHeads::Both, head));

    let mut misfit = lora;
    misfit.score = Some(0..5);
    let error = open("tiny/llama").merged(misfit).unwrap_err();
    insta::assert_snapshot!(common::text(&error, &shared("tiny/llama")), @"
    FOLDER: the tensor `score.weight` should have the shape [1, 5], but has [1, 64]
    help: weights and configuration belong to two models: name the model that the adapter was made for, or fetch both anew
    ");
}

/// The error's text for the fixture's reward model with some fields of its configuration changed.
fn refusal(changes: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut config = json(&shared("reward/model/config.json"));
    config.extend(changes.as_object().unwrap().clone());
    let file = "model.safetensors";
    std::fs::copy(shared("reward/model").join(file), folder.path().join(file)).unwrap();
    common::write(&folder.path().join("config.json"), &serde_json::to_vec(&config).unwrap());
    common::text(&Model::open(folder.path()).unwrap_err(), folder.path())
}

/// The error's text for the same model with a bias beside its head's weights.
fn with_bias() -> String {
    let (source, folder) = (shared("reward/model"), tempfile::tempdir().unwrap());
    let bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = read.tensors();
    let bias = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    tensors.push(("score.bias".to_owned(), bias));
    let bytes = safetensors::serialize(tensors, None).unwrap();
    common::write(&folder.path().join("model.safetensors"), &bytes);
    std::fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    common::text(&Model::open(folder.path()).unwrap_err(), folder.path())
}

#[test]
fn heads_of_other_kinds_are_refused() {
    let changes = [
        json!({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}),
        json!({"id2label": null}),
        json!({"architectures": ["Qwen2ForTokenClassification"]}),
        json!({"architectures": ["Qwen2ForCausalLM"]}),
    ];
    let mut refusals: Vec<String> = changes.iter().map(refusal).collect();
    let adapter = |config: LoraConfig| {
        common::text(&Lora::new(config, open("tiny/llama").config(), 0).unwrap_err(), Path::new("/nowhere"))
    };
    refusals.push(adapter(scoring("SEQ_CLS", Some(&["score", "lm_head"]))));
    refusals.push(adapter(scoring("TOKEN_CLS", None)));
    let score = Targets::Names(vec!["q_proj".to_owned(), "score".to_owned()]);
    refusals.push(adapter(LoraConfig { target_modules: Some(score), ..scoring("SEQ_CLS", None) }));
    let model = open("reward/model").with_heads(OutputHeads::Tokens, 0);
    refusals.push(common::text(&model.unwrap_err(), &shared("reward/model")));
    refusals.push(with_bias());
    insta::assert_snapshot!(refusals.join("\n\n"), @r#"
    config.json: `num_labels` is 2, which is not supported
    help: a reward model has one label

    config.json: `num_labels` is 2, which is not supported
    help: a reward model has one label

    config.json: models of the kind `Qwen2ForTokenClassification` are not supported
    help: known kinds: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, SmolLM3ForCausalLM, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Phi3ForCausalLM; the nearest is `Qwen2ForCausalLM`

    FOLDER: the tensor `lm_head.weight` is missing
    help: the weights and their configuration do not belong together, or a file is missing

    adapter configuration: `modules_to_save` is lm_head, which is not supported
    help: a reward model has no head for tokens

    adapter configuration: `task_type` is TOKEN_CLS, which is not supported
    help: the adapter must be for CAUSAL_LM, or for SEQ_CLS with one label

    `target_modules`: it matches `score`, which cannot be adapted
    help: adaptable modules: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; or "all-linear" for all of them

    FOLDER: it is a reward model, which scores texts and does not write them
    help: give a model that writes, such as the one that this one was trained from

    FOLDER: `score.bias` is there, which is not supported
    help: a scalar head must have no bias
    "#);
}

#[test]
fn a_head_is_read_at_the_last_token_that_fills_nothing_up() {
    let config = open("reward/model").config().clone();
    assert_eq!(config.pad_token_id, Some(0));
    assert_eq!(
        [&[5, 6, 7][..], &[5, 6, 0, 0], &[5, 0, 6], &[0, 0], &[]].map(|tokens| config.pooled(tokens)),
        [2, 1, 2, 0, 0]
    );
    let none = DecoderConfig { pad_token_id: None, ..config };
    assert_eq!(none.pooled(&[5, 0, 0]), 2);
}
