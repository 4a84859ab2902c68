//! Reward models: the values of a prompt's completions in one tree are those of each sequence alone.

use std::path::{Path, PathBuf};

use crate::common::{Case, score};
use collimate_engine::{Batch, CpuEngine, CpuOptions, Dropout, Engine, Error as EngineError, Scores};
use collimate_model::{DecoderConfig, Lora, Model, Parameters, TemplateOptions};
use collimate_reward::{Error, Reward, RewardModel};
use collimate_run::atomic;
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn engine(model: &Model) -> CpuEngine {
    CpuEngine::load(model, CpuOptions { threads: Some(2), ..CpuOptions::default() }, |_| {}).unwrap()
}

/// The tiny Llama with an adapter that has a scalar head.
fn adapted() -> RewardModel<CpuEngine> {
    adapted_in(&fixture("tiny/llama"))
}

fn adapted_in(folder: &Path) -> RewardModel<CpuEngine> {
    let model = Model::open(folder).unwrap();
    let adapter = Lora::load(&fixture("reward/adapter"), model.config()).unwrap();
    RewardModel { engine: engine(&model), adapter: Some(adapter), tokenizer: model.tokenizer().unwrap() }
}

/// The value at the last of these tokens.
fn alone(model: &mut RewardModel<CpuEngine>, text: &str, add_special_tokens: bool) -> f64 {
    let tokens = model.tokenizer.encode(text, add_special_tokens).unwrap();
    let mut batch = Batch::new();
    batch.push_segment(&tokens, None);
    batch.readouts.push(tokens.len() as u32 - 1);
    let adapter = model.adapter.clone();
    f64::from(model.engine.score(&batch, adapter.as_ref()).unwrap().values[0])
}

/// An engine that notes the most tokens that it was given at once.
struct Watched(CpuEngine, usize);

impl Engine for Watched {
    fn config(&self) -> &DecoderConfig {
        self.0.config()
    }

    fn score(&mut self, batch: &Batch, adapter: Option<&Lora>) -> Result<&Scores, EngineError> {
        self.1 = self.1.max(batch.tokens.len());
        self.0.score(batch, adapter)
    }

    fn forward<'a>(
        &mut self,
        batch: &Batch,
        trained: impl Into<Parameters<'a>>,
        dropout: Option<Dropout>,
    ) -> Result<&Scores, EngineError> {
        self.0.forward(batch, trained, dropout)
    }

    fn backward<'a>(
        &mut self,
        trained: impl Into<Parameters<'a>>,
        gradients: &[f32],
        into: &mut [f32],
    ) -> Result<(), EngineError> {
        self.0.backward(trained, gradients, into)
    }

    fn refresh<'a>(&mut self, trained: impl Into<Parameters<'a>>) -> Result<(), EngineError> {
        self.0.refresh(trained)
    }
}

fn of(row: u64, prompt: &Value, completion: &str) -> Case {
    Case::new(row, json!({ "prompt": prompt }), completion)
}

#[test]
fn a_completion_is_worth_what_its_whole_text_is_worth_alone() {
    let mut model = adapted();
    let end = model.tokenizer.special_token("eos_token").unwrap().to_owned();
    let question = json!("What is it?\n");
    // One is the beginning of another, two are the same, and one has the end already.
    let texts = ["It is", "It is late.", "It is", "", &format!("No.{end}"), "早"];
    let mut cases: Vec<Case> = texts.iter().map(|text| of(1, &question, text)).collect();
    // So much that it takes several batches.
    cases.extend((2..12).map(|row| of(row, &json!(format!("{row}")), &"a b c ".repeat(60))));
    let found = score(&mut model, &cases).unwrap();
    for (case, found) in cases.iter().zip(found) {
        let (prompt, completion) = (case.prompt.as_str().unwrap(), case.completion.trim_end_matches(&end));
        assert_eq!(found, alone(&mut model, &format!("{prompt}{completion}{end}"), true), "{completion}");
    }
    assert_eq!(model.name(), "model");
}

/// As SmolLM2's configuration has it.
#[test]
fn a_text_closed_by_the_padding_token_is_read_before_it() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("tiny/llama")).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["pad_token_id"] = config["eos_token_id"].clone();
    atomic::write(&path, config.to_string().as_bytes()).unwrap();
    let mut model = adapted_in(folder.path());
    let found = score(&mut model, &[of(1, &json!("What?"), " This."), of(1, &json!("What?"), "")]).unwrap();
    assert_eq!(found, ["What? This.", "What?"].map(|text| alone(&mut model, text, true)));
}

#[test]
fn messages_go_through_the_chat_template() {
    let mut model = adapted();
    let prompt = json!([{ "role": "user", "content": "Hi" }]);
    let messages = [prompt[0].clone(), json!({ "role": "assistant", "content": "Hello" })];
    let text =
        model.tokenizer.chat_template().unwrap().render(&messages, &TemplateOptions::default()).unwrap();
    let expected = alone(&mut model, &text, false);
    let found = score(&mut model, &[of(1, &prompt, "Hello"), of(1, &prompt, "Go away")]).unwrap();
    assert!(found[0] == expected && found[1] != expected, "{found:?} {expected}");
}

/// Where the end-of-sequence token also fills up, transformers and TRL read the token before it.
#[test]
fn a_token_that_fills_up_is_not_valued() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("tiny/llama")).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["pad_token_id"] = config["eos_token_id"].clone();
    collimate_run::atomic::write(&path, config.to_string().as_bytes()).unwrap();
    let mut model = adapted();
    let expected = alone(&mut model, "What is it?\nIt is late.", true);
    model.engine = engine(&Model::open(folder.path()).unwrap());
    let found = score(&mut model, &[of(1, &json!("What is it?\n"), "It is late.")]).unwrap();
    assert_eq!(found, [expected]);
}

#[test]
fn what_cannot_be_valued_is_an_error_with_its_row() {
    let mut model = adapted();
    let failed = score(&mut model, &[of(1, &json!("?"), "a"), of(9, &json!("?"), &"a b ".repeat(600))]);
    assert!(matches!(failed, Err(Error::Row { row: 9, .. })), "{failed:?}");
    let failed = score(&mut model, &[of(4, &json!(3), "a")]).unwrap_err();
    assert!(matches!(failed, Error::Row { row: 4, .. }), "{failed:?}");
    let plain = Model::open(&fixture("tiny/llama")).unwrap();
    let mut headless =
        RewardModel { engine: engine(&plain), adapter: None, tokenizer: plain.tokenizer().unwrap() };
    let failed = score(&mut headless, &[of(1, &json!("?"), "a")]).unwrap_err();
    assert!(matches!(&failed, Error::Engine(error) if matches!(**error, EngineError::NoScore)), "{failed:?}");
}

#[test]
fn many_completions_of_a_prompt_go_through_the_model_in_parts() {
    let RewardModel { engine, adapter, tokenizer } = adapted();
    let mut model = RewardModel { engine: Watched(engine, 0), adapter, tokenizer };
    let question = json!("What is it? ".repeat(8));
    let cases: Vec<Case> = (0..20).map(|number| of(1, &question, &format!("{number} ").repeat(60))).collect();
    let together = score(&mut model, &cases).unwrap();
    assert!(model.engine.1 > 1024 && model.engine.1 <= 2048, "{}", model.engine.1);
    let apart = cases.chunks(1).map(|case| score(&mut model, case).unwrap()[0]);
    assert_eq!(together, apart.collect::<Vec<_>>());
}
