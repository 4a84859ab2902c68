//! Sampled first tokens of a tiny model against the exact distribution, formed from what transformers recorded.

use std::collections::BTreeMap;

use crate::common::{Loaded, chi_square_p, fixtures};
use collimate_generate::{Prompt, Request, SamplingOptions};
use safetensors::SafeTensors;

const DRAWS: u64 = 20_000;
const TEMPERATURE: f64 = 1.2;

/// The logits behind the first recorded sequence, and its tokens: the head by transformers' last hidden state, which
/// is in f64 but for its storage.
fn logits() -> (Vec<u32>, Vec<f64>) {
    let folder = fixtures().join("tiny/llama");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&read("expected.json")).unwrap();
    let ids = serde_json::from_value(expected["sequences"][0]["ids"].clone()).unwrap();
    let (hidden, weights) = (read("expected.safetensors"), read("model.safetensors"));
    let hidden = SafeTensors::deserialize(&hidden).unwrap().tensor("hidden.0").unwrap();
    let width = hidden.shape()[1];
    let hidden: Vec<f64> =
        hidden.data().chunks(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()).into()).collect();
    let head = SafeTensors::deserialize(&weights).unwrap().tensor("model.embed_tokens.weight").unwrap();
    assert_eq!(head.dtype(), safetensors::Dtype::BF16);
    let value =
        |x: &[u8]| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(x.try_into().unwrap())) << 16));
    let head: Vec<f64> = head.data().chunks(2).map(value).collect();
    let last = &hidden[hidden.len() - width..];
    let logit = |row: &[f64]| row.iter().zip(last).map(|(w, x)| w * x).sum();
    (ids, head.chunks(width).map(logit).collect())
}

#[test]
fn first_tokens_follow_the_models_distribution() {
    let mut loaded = Loaded::tiny("llama");
    let (prompt, logits) = logits();
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit / TEMPERATURE).exp()).collect();
    let mass: f64 = exponentials.iter().sum();
    let shares: BTreeMap<u32, f64> = (0..).zip(exponentials.iter().map(|x| x / mass)).collect();
    let request = Request { samples: (0..DRAWS).collect(), ..Request::new(Prompt::Tokens(prompt), 11) };
    let options = SamplingOptions {
        do_sample: true,
        temperature: TEMPERATURE,
        top_k: 0,
        max_new_tokens: 1,
        ..SamplingOptions::default()
    };
    let mut counts = BTreeMap::<u32, u32>::new();
    for sample in loaded.generate(&[request], &options, 64).unwrap() {
        *counts.entry(sample.tokens[0]).or_default() += 1;
    }
    let p = chi_square_p(&counts, &shares);
    assert!(p > 1e-3, "one of a thousand seeds has so rare a result: {p:e}");
}
