//! Verdicts of models under a JSON Schema: each can be read, at a temperature at which none would be without it.

use std::path::Path;

use crate::common::{Loaded, fixtures};
use collimate_generate::{Constraint, FinishReason, Prompt, Request, Sample, SamplingOptions};
use serde_json::{Value, json};

fn options(constraint: Option<Constraint>) -> SamplingOptions {
    SamplingOptions {
        do_sample: true,
        temperature: 1.2,
        top_k: 0,
        max_new_tokens: 450,
        constraint,
        ..SamplingOptions::default()
    }
}

fn schema() -> Constraint {
    Constraint::Json(json!({
        "type": "object",
        "properties": {
            "reason": {"type": "string", "maxLength": 60},
            "better_answer": {"enum": [1, 2]},
        },
        "required": ["reason", "better_answer"],
        "additionalProperties": false,
    }))
}

fn verdicts(loaded: &mut Loaded, count: u64, options: &SamplingOptions) -> Vec<Sample> {
    let prompt = Prompt::Text("Which answer is better, 1 or 2? Answer as JSON.\n".to_owned());
    let request = Request { samples: (0..count).collect(), ..Request::new(prompt, 1) };
    loaded.generate(&[request], options, 32).unwrap()
}

/// Whether the text is a verdict of the schema.
fn fits(text: &str) -> bool {
    let Ok(Value::Object(verdict)) = serde_json::from_str(text) else { return false };
    let short = verdict.get("reason").and_then(Value::as_str).is_some_and(|text| text.chars().count() <= 60);
    let choice = verdict.get("better_answer").and_then(Value::as_u64);
    short && matches!(choice, Some(1 | 2)) && verdict.len() == 2
}

fn all_fit(loaded: &mut Loaded, count: u64) {
    for sample in verdicts(loaded, count, &options(Some(schema()))) {
        assert!(fits(&sample.text), "{:?}", sample.text);
        assert_eq!(sample.finish_reason, FinishReason::Stop);
        // At most one space stands between two tokens of JSON, and none before or behind it.
        let head = sample.text.split("\"reason\"").next().unwrap();
        assert!(["{", "{ "].contains(&head), "{:?}", sample.text);
    }
}

#[test]
fn a_thousand_verdicts_can_all_be_read() {
    let mut loaded = Loaded::tiny("llama");
    all_fit(&mut loaded, 1_000);
    let free = verdicts(&mut loaded, 20, &options(None));
    assert!(!free.iter().any(|sample| fits(&sample.text)));
}

#[test]
fn verdicts_of_a_real_model_can_all_be_read() {
    #[allow(clippy::disallowed_methods, reason = "a test is told of the models by the environment")]
    let Some(models) = std::env::var_os("COLLIMATE_TEST_MODELS") else {
        return eprintln!("skipped: COLLIMATE_TEST_MODELS names no folder of real models");
    };
    all_fit(&mut Loaded::open(&Path::new(&models).join("smol"), 2), 30);
}

#[test]
fn a_text_is_the_same_whatever_stands_beside_it_and_on_any_number_of_threads() {
    let load = |threads: usize| Loaded::open(&fixtures().join("tiny/qwen2"), threads);
    let mut loaded = load(2);
    let options = options(Some(schema()));
    let all = verdicts(&mut loaded, 20, &options);
    assert_eq!(all, verdicts(&mut load(1), 20, &options));
    for number in [17, 3] {
        let prompt = Prompt::Text("Which answer is better, 1 or 2? Answer as JSON.\n".to_owned());
        let request = Request { samples: vec![number], ..Request::new(prompt, 1) };
        let alone = loaded.generate(&[request], &options, 1).unwrap();
        assert_eq!(alone[0], all[number as usize]);
    }
}

#[test]
fn one_of_the_choices_is_taken() {
    let mut loaded = Loaded::tiny("llama");
    let choices = vec!["Answer 1".to_owned(), "Answer 2".to_owned(), "neither".to_owned()];
    let mut seen = std::collections::BTreeSet::new();
    for sample in verdicts(&mut loaded, 60, &options(Some(Constraint::Choice(choices.clone())))) {
        assert!(choices.contains(&sample.text), "{:?}", sample.text);
        seen.insert(sample.text);
    }
    assert_eq!(seen.len(), 3);
}
