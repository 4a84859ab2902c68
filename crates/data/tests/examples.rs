//! Tokenised examples equal those of TRL's SFTTrainer, recorded by fixtures/record_examples.py.

use std::path::Path;

use crate::common::{fixture, put, real_data, real_model};
use collimate_data::{Error, Example, SftFormat, SftOptions, sft_examples};
use collimate_model::{ChatTemplate, Tokenizer};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Case {
    tokenizer: String,
    table: String,
    max_length: usize,
    completion_only: bool,
    examples: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
}

impl Recorded {
    /// Which tokens TRL's loss counts: it shifts labels by one, so that the first one is never looked at.
    fn trained(&self) -> Vec<bool> {
        self.labels.iter().enumerate().map(|(at, label)| at > 0 && *label >= 0).collect()
    }
}

fn tiny() -> Tokenizer {
    Tokenizer::from_folder(&fixture("examples/tokenizer")).unwrap()
}

#[test]
fn equals_trl() {
    let text = std::fs::read(fixture("examples/expected.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&text).unwrap();
    assert!(cases.iter().any(|case| case.tokenizer == "tiny"));
    for case in cases {
        let tokenizer = match case.tokenizer.as_str() {
            "tiny" => tiny(),
            real => match real_model(real) {
                Some(folder) => Tokenizer::from_folder(&folder).unwrap(),
                None => continue,
            },
        };
        let Case { max_length, completion_only, table, .. } = &case;
        let options =
            SftOptions { max_length: *max_length, completion_only: *completion_only, ..Default::default() };
        let path = fixture(&format!("examples/{table}.jsonl"));
        let found = sft_examples(&path, &tokenizer, &options).unwrap();
        // TRL keeps rows whose only label is the first token's; nothing predicts it, so they train nothing.
        let expected = case.examples.iter().filter(|example| example.trained().contains(&true));
        let expected: Vec<_> =
            expected.map(|example| (example.input_ids.clone(), example.trained())).collect();
        let found: Vec<_> =
            found.examples.into_iter().map(|example| (example.tokens, example.trained)).collect();
        assert_eq!(found.len(), expected.len(), "{table} with {}", case.tokenizer);
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(
                found, expected,
                "example {row} of {table} with {}, {max_length} tokens",
                case.tokenizer
            );
        }
    }
}

#[test]
fn counts_what_is_cut_and_what_is_left_out() {
    let path = fixture("examples/pairs.jsonl");
    let options = SftOptions { max_length: 40, ..Default::default() };
    let found = sft_examples(&path, &tiny(), &options).unwrap();
    // Row 7's prompt fills the limit; rows 7 and 8 are longer than it; row 2's words merge over the boundary.
    assert_eq!((found.skipped, found.rejected, found.diverged), (1, 0, 1));
    assert!(found.truncated >= 2);
    assert!(found.examples.iter().all(|example| example.row != 7 && example.tokens.len() <= 40));
    assert!(found.examples.iter().all(|example| !example.trained[0]));
}

/// The trained text of each example.
fn trained_text(tokenizer: &Tokenizer, examples: &[Example]) -> Vec<String> {
    let kept = |example: &Example| -> Vec<u32> {
        let pairs = example.tokens.iter().zip(&example.trained);
        pairs.filter_map(|(token, trained)| trained.then_some(*token)).collect()
    };
    examples.iter().map(|example| tokenizer.decode(&kept(example), false).unwrap()).collect()
}

#[test]
fn all_formats_train_the_same_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (user, assistant) =
        (json!({"role": "user", "content": "Hi"}), json!({"role": "assistant", "content": "Yo"}));
    let cases = [
        (json!({ "prompt": "Hi\n", "response": "Yo" }), "Yo<|im_end|>"),
        (json!({ "prompt": "Hi\n", "completion": "Yo" }), "Yo<|im_end|>"),
        (json!({ "instruction": "Hi", "input": "", "output": "Yo" }), "Yo<|im_end|>"),
        (json!({ "instruction": "Hi", "output": "Yo" }), "Yo<|im_end|>"),
        (json!({ "prompt": [user], "completion": [assistant] }), "Yo<|im_end|>\n"),
        (json!({ "prompt": [user], "response": [assistant] }), "Yo<|im_end|>\n"),
        (json!({ "messages": [user, assistant] }), "Yo<|im_end|>\n"),
        (json!({ "messages": [user, assistant, user, assistant] }), "Yo<|im_end|>\nYo<|im_end|>\n"),
        (
            json!({ "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}] }),
            "Yo<|im_end|>\n",
        ),
    ];
    for (row, expected) in cases {
        let path = put(folder.path(), "a.jsonl", row.to_string());
        let found = sft_examples(&path, &tiny(), &SftOptions::default()).unwrap();
        assert_eq!(trained_text(&tiny(), &found.examples), [expected], "{row}");
    }
}

fn error_of(rows: &str, tokenizer: &Tokenizer, options: &SftOptions) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error =
        sft_examples(&put(folder.path(), "a.jsonl", rows), tokenizer, options).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn says_what_is_wrong() {
    let options = SftOptions::default();
    assert_eq!(error_of("", &tiny(), &options), "a.jsonl holds no row that can be used: it is empty");
    assert_eq!(
        error_of(r#"{"text": "x", "n": 1}"#, &tiny(), &options),
        "a.jsonl: the columns text, n fit none of the formats for training"
    );
    assert_eq!(
        error_of(r#"{"prompt": "x", "response": 7}"#, &tiny(), &options),
        "a.jsonl holds no row that can be used: 1 bad rows (a.jsonl, line 1: `response` must be a string, and is a \
         number)"
    );
    let strict = SftOptions { strict: true, ..Default::default() };
    assert_eq!(
        error_of(r#"{"messages": [{"content": "x"}]}"#, &tiny(), &strict),
        "bad row in a.jsonl, line 1: `messages[0]` has no role"
    );
    let named = SftOptions { format: Some(SftFormat::Messages), ..strict };
    assert_eq!(
        error_of(r#"{"prompt": "x", "response": "y"}"#, &tiny(), &named),
        "bad row in a.jsonl, line 1: `messages` is missing"
    );
    let short = SftOptions { max_length: 1, ..Default::default() };
    assert!(matches!(sft_examples(Path::new("a"), &tiny(), &short), Err(Error::OutOfRange { .. })));
}

/// A template that drops what the assistant thought in earlier turns, as reasoning models' do.
#[test]
fn a_turn_that_the_template_rewrites_is_a_bad_row() {
    let folder = tempfile::tempdir().unwrap();
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if loop.last else 'gone' }}<|im_end|>\n{% endfor %}";
    assert!(ChatTemplate::new(source, Default::default()).render(&[], &Default::default()).is_ok());
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        put(folder.path(), file, std::fs::read(fixture("examples/tokenizer").join(file)).unwrap());
    }
    put(folder.path(), "chat_template.jinja", source);
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let turn = |role: &str| json!({ "role": role, "content": "thought" });
    let row = json!({ "messages": [turn("user"), turn("assistant"), turn("user"), turn("assistant")] });
    let strict = SftOptions { strict: true, ..Default::default() };
    assert!(
        error_of(&row.to_string(), &tokenizer, &strict)
            .contains("renders an earlier assistant turn differently")
    );
}

#[test]
fn reads_real_rows() {
    let options = SftOptions::default();
    for (file, rows) in [("lakshya/sft_val.jsonl.gz", 7_203), ("llamafactory/alpaca_zh_demo.json.gz", 1_000)]
    {
        let Some(path) = real_data(file) else { continue };
        let found = sft_examples(&path, &tiny(), &options).unwrap();
        assert_eq!(found.examples.len() as u64 + found.skipped + found.rejected, rows, "{file}");
        assert_eq!(found.rejected, 0);
        assert!(found.truncated > 0);
    }
}
