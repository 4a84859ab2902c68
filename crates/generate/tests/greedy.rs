//! Greedy text against transformers on the real models, fifty prompts of 128 tokens: English, Chinese and code.

use std::fs::File;
use std::path::PathBuf;

use crate::common::{Loaded, fixtures};
use collimate_generate::{FinishReason, Prompt, Request, SamplingOptions};
use flate2::read::GzDecoder;
use serde::Deserialize;

/// What `fixtures/greedy.py` records of a prompt.
#[derive(Deserialize)]
struct Recorded {
    prompt: String,
    ids: Vec<u32>,
    /// Up to and with the end token, if it was written.
    generated: Vec<u32>,
    /// By how much each token's logit was above the next best.
    margins: Vec<f64>,
}

/// Where the two best logits are as close as that in transformers' f32, either is right, and the texts may part.
const CLOSE: f64 = 2e-3;

#[test]
fn greedy_texts_are_transformers() {
    #[allow(clippy::disallowed_methods, reason = "a test is told of the models by the environment")]
    let Some(models) = std::env::var_os("COLLIMATE_TEST_MODELS") else {
        return eprintln!("skipped: COLLIMATE_TEST_MODELS names no folder of real models");
    };
    for name in ["smol", "qwen"] {
        let file = File::open(fixtures().join(format!("real/greedy_{name}.json.gz"))).unwrap();
        let recorded: Vec<Recorded> = serde_json::from_reader(GzDecoder::new(file)).unwrap();
        assert_eq!(recorded.len(), 50);
        let mut loaded = Loaded::open(&PathBuf::from(&models).join(name), 2);
        let requests = recorded.iter().map(|recorded| Request::new(Prompt::Text(recorded.prompt.clone()), 0));
        let requests: Vec<Request> = requests.collect();
        let end = loaded.tokenizer.eos_id().unwrap();
        let options = SamplingOptions {
            max_new_tokens: 128,
            eos_token_id: Some(vec![end]),
            ..SamplingOptions::default()
        };
        let samples = loaded.generate(&requests, &options, 25).unwrap();
        let mut whole = 0;
        for (sample, recorded) in samples.iter().zip(&recorded) {
            let Recorded { prompt, ids, generated, margins } = recorded;
            assert_eq!(&loaded.tokenizer.encode(prompt, true).unwrap(), ids, "{name}: {prompt:?}");
            if sample.tokens == *generated {
                let ended = generated.last() == Some(&end);
                let reason = if ended { FinishReason::Stop } else { FinishReason::Length };
                assert_eq!(sample.finish_reason, reason, "{name}: {prompt:?}");
                whole += 1;
                continue;
            }
            let parted =
                sample.tokens.iter().zip(generated).take_while(|(got, wanted)| got == wanted).count();
            let margin = margins.get(parted).copied().unwrap_or(f64::INFINITY);
            assert!(
                margin < CLOSE,
                "{name}: {prompt:?} parts at token {parted}, where the margin is {margin}"
            );
            eprintln!("{name}: {prompt:?} parts at token {parted}, where the margin is {margin}");
        }
        eprintln!("{name}: {whole} of 50 texts are the same to the last token");
        assert!(whole >= 45, "{name}: only {whole} texts are the same");
    }
}
