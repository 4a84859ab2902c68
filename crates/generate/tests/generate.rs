//! The built-in generator: recorded greedy tokens, batches, stops, errors.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::common::{ADAPTER, Loaded, fixtures};
use collimate_generate::{Error, FinishReason, Prompt, Request, SamplingOptions};
use collimate_model::Tokenizer;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Expected {
    greedy: Greedy,
}

#[derive(Deserialize)]
struct Greedy {
    prompt: Vec<u32>,
    generated: Vec<u32>,
    margins: Vec<f64>,
}

fn greedy(name: &str) -> Greedy {
    let text = std::fs::read(fixtures().join("tiny").join(name).join("expected.json")).unwrap();
    serde_json::from_slice::<Expected>(&text).unwrap().greedy
}

fn sampled() -> SamplingOptions {
    SamplingOptions { do_sample: true, top_p: 0.95, max_new_tokens: 24, ..SamplingOptions::default() }
}

/// Prompts of several lengths, three samples of each.
fn requests() -> Vec<Request> {
    let texts =
        ["Boil", "def mean(values):\n    return", "What is the capital of Portugal?", "a b c d e f g"];
    let request = |(text, key): (&&str, u64)| Request {
        adapter: Some(ADAPTER.to_owned()),
        samples: vec![0, 1, 2],
        ..Request::new(Prompt::Text((*text).to_owned()), key)
    };
    texts.iter().zip(10..).map(request).collect()
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for name in ["llama", "qwen2"] {
        let (mut loaded, expected) = (Loaded::tiny(name), greedy(name));
        let options = SamplingOptions {
            max_new_tokens: expected.generated.len(),
            eos_token_id: Some(Vec::new()),
            ..SamplingOptions::default()
        };
        let requests = [loaded.request(Prompt::Tokens(expected.prompt.clone()), 0)];
        let sample = loaded.generate(&requests, &options, 1).unwrap().remove(0);
        // f32 cannot tell apart what f64 finds closer than this; the tiny models have no such step.
        assert!(expected.margins.iter().all(|&margin| margin > 1e-4), "{name}");
        assert_eq!(sample.tokens, expected.generated, "{name}");
        assert_eq!(sample.finish_reason, FinishReason::Length);
        assert_eq!(sample.text, loaded.tokenizer.decode(&expected.generated, true).unwrap());

        let requests = [Request { adapter: None, ..requests[0].clone() }];
        let base = loaded.generate(&requests, &options, 1).unwrap().remove(0);
        assert_ne!(base.tokens, sample.tokens, "{name}: the adapter changes nothing");
    }
}

#[test]
fn company_order_and_threads_change_no_text() {
    for name in ["llama", "qwen2"] {
        let (mut loaded, options, requests) = (Loaded::tiny(name), sampled(), requests());
        let together = loaded.generate(&requests, &options, 12).unwrap();
        let samples = requests.iter().flat_map(|request| {
            request.samples.iter().map(|&number| Request { samples: vec![number], ..request.clone() })
        });
        for (request, expected) in samples.zip(&together) {
            let alone = loaded.generate(std::slice::from_ref(&request), &options, 1).unwrap();
            assert_eq!(&alone[0], expected, "{name}: {request:?}");
        }
        let reversed = requests.iter().rev().map(|request| {
            let samples = request.samples.iter().rev().copied().collect();
            Request { samples, ..request.clone() }
        });
        let reversed: Vec<Request> = reversed.collect();
        loaded = Loaded::open(&fixtures().join("tiny").join(name), 1);
        let mut other = loaded.generate(&reversed, &options, 5).unwrap();
        other.reverse();
        assert_eq!(other, together, "{name}");
        let texts: std::collections::BTreeSet<_> = together.iter().map(|sample| &sample.tokens).collect();
        assert_eq!(texts.len(), together.len(), "{name}: each sample has draws of its own");
    }
}

#[test]
fn an_answer_stops_at_an_end_token_which_its_text_leaves_out() {
    let (mut loaded, expected) = (Loaded::tiny("llama"), greedy("llama"));
    let end = expected.generated[5];
    let length = expected.generated.iter().position(|&token| token == end).unwrap() + 1;
    let options = SamplingOptions { eos_token_id: Some(vec![end]), ..SamplingOptions::default() };
    let requests = [loaded.request(Prompt::Tokens(expected.prompt), 0)];
    let sample = loaded.generate(&requests, &options, 1).unwrap().remove(0);
    assert_eq!(sample.tokens, expected.generated[..length]);
    assert_eq!(sample.finish_reason, FinishReason::Stop);
    assert_eq!(sample.text, loaded.tokenizer.decode(&expected.generated[..length - 1], true).unwrap());
}

#[test]
fn more_prompts_than_places_that_end_at_once_are_all_answered() {
    let mut loaded = Loaded::tiny("llama");
    let options = SamplingOptions { max_new_tokens: 1, ..sampled() };
    let samples = loaded.generate(&requests(), &options, 2).unwrap();
    assert_eq!(samples.len(), 12);
    assert!(samples.iter().all(|sample| sample.tokens.len() == 1));
    assert!(loaded.generate(&[], &options, 2).unwrap().is_empty());
}

#[test]
fn the_context_ends_an_answer() {
    let mut loaded = Loaded::tiny("llama");
    let options = SamplingOptions { eos_token_id: Some(Vec::new()), ..SamplingOptions::default() };
    let requests = [loaded.request(Prompt::Tokens(vec![5; 509]), 0)];
    let sample = loaded.generate(&requests, &options, 1).unwrap().remove(0);
    assert_eq!((sample.tokens.len(), sample.finish_reason), (3, FinishReason::Length));
    let error = loaded.error(Prompt::Tokens(vec![5; 512]), &options);
    assert_eq!(
        error.to_string(),
        "prompt 1 has 512 tokens, and the model's context of 512 leaves no room for an answer"
    );
}

#[test]
fn a_conversation_is_written_by_the_template() {
    let mut loaded = Loaded::tiny("qwen2");
    let messages = vec![json!({"role": "user", "content": " What is the capital of Portugal?\n"})];
    let rendered = "<|im_start|>user\nWhat is the capital of Portugal?<|im_end|>\n<|im_start|>assistant\n";
    let as_tokens = Prompt::Tokens(loaded.tokenizer.encode(rendered, false).unwrap());
    let requests = [loaded.request(Prompt::Chat(messages.clone()), 3), loaded.request(as_tokens, 3)];
    let samples = loaded.generate(&requests, &sampled(), 2).unwrap();
    assert_eq!(samples[0], samples[1]);

    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixtures().join("tiny/qwen2").join(file), folder.path().join(file)).unwrap();
    }
    loaded.tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let error = loaded.error(Prompt::Chat(messages), &sampled());
    assert!(matches!(error, Error::NoChatTemplate { number: 1 }), "{error}");
}

#[test]
fn what_cannot_be_answered_is_an_error() {
    let mut loaded = Loaded::tiny("llama");
    let error = loaded.error(Prompt::Text(String::new()), &sampled());
    assert_eq!(error.to_string(), "prompt 1 is empty");
    let error = loaded.error(Prompt::Tokens(vec![400]), &sampled());
    assert_eq!(error.to_string(), "token 400 is outside the model's vocabulary of 400");
    let error =
        loaded.error(Prompt::Text("Boil".to_owned()), &SamplingOptions { temperature: 0.0, ..sampled() });
    assert_eq!(error.to_string(), "the setting temperature is 0, and must be between 0.000001 and 3.4e38");
    let error = loaded.generate_unless(&AtomicBool::new(true), &requests(), &sampled(), 2).unwrap_err();
    assert!(matches!(error, Error::Run(collimate_run::Error::Interrupted)), "{error}");
}

#[test]
fn a_model_that_diverged_is_an_error() {
    let mut loaded = Loaded::tiny("llama");
    loaded.adapters[0].1.values.fill(f32::NAN);
    let error = loaded.error(Prompt::Text("Boil".to_owned()), &sampled());
    assert!(matches!(error, Error::NotFinite { number: 1, tokens: 0 }), "{error}");
}

#[derive(Deserialize)]
struct Real {
    greedy: Vec<RealGreedy>,
}

#[derive(Deserialize)]
struct RealGreedy {
    prompt: String,
    generated: Vec<u32>,
    margins: Vec<f64>,
}

#[test]
fn real_models_write_transformers_text() {
    #[allow(clippy::disallowed_methods, reason = "a test is told of the models by the environment")]
    let Some(models) = std::env::var_os("COLLIMATE_TEST_MODELS") else {
        return eprintln!("skipped: COLLIMATE_TEST_MODELS names no folder of real models");
    };
    for name in ["smol", "qwen"] {
        let file = std::fs::File::open(fixtures().join(format!("real/{name}.json.gz"))).unwrap();
        let expected: Real = serde_json::from_reader(flate2::read::GzDecoder::new(file)).unwrap();
        let mut loaded = Loaded::open(&PathBuf::from(&models).join(name), 2);
        let requests: Vec<Request> = expected
            .greedy
            .iter()
            .map(|greedy| loaded.request(Prompt::Text(greedy.prompt.clone()), 0))
            .collect();
        let options = SamplingOptions {
            max_new_tokens: expected.greedy.iter().map(|greedy| greedy.generated.len()).max().unwrap(),
            eos_token_id: Some(vec![loaded.tokenizer.eos_id().unwrap()]),
            ..SamplingOptions::default()
        };
        let samples = loaded.generate(&requests, &options, 5).unwrap();
        for (sample, expected) in samples.iter().zip(&expected.greedy) {
            // Where the two best tokens are this close in transformers' f32, either is right, and the texts part.
            let close = expected.margins.iter().position(|&margin| margin < 2e-3);
            let sure = close.unwrap_or(expected.generated.len());
            let prefix = sample.tokens.get(..sure);
            assert_eq!(prefix, Some(&expected.generated[..sure]), "{name}: {:?}", expected.prompt);
            if close.is_none() {
                assert_eq!(sample.tokens.len(), expected.generated.len(), "{name}: {:?}", expected.prompt);
            }
        }
    }
}
