//! Timings of a preference step on a real model, where COLLIMATE_TEST_MODELS has SmolLM2-135M in `smol`:
//! `cargo bench -p collimate-engine`. Tokens are counted as a trainer without prefix trees would, prompts twice.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a timing that cannot be set up is to fail")]

use collimate_engine::{Batch, CpuEngine, CpuOptions, Dtype, Engine, Quantisation};
use collimate_model::{Lora, LoraConfig, Model, Targets};
use std::time::Instant;

/// Pairs of a step, and of a micro-batch.
const PAIRS: usize = 32;
const TOGETHER: usize = 8;
/// Timed steps of each kind; the best time of each micro-batch counts.
const ROUNDS: usize = 5;

/// Micro-batches of pairs with short prompts and answers of different lengths, and their tokens.
fn micro_batches() -> (Vec<Batch>, usize) {
    let mut tokens = 0;
    let mut pair = |batch: &mut Batch, index: usize| {
        let text = |len: usize, salt: usize| -> Vec<u32> {
            (0..len).map(|i| ((i * 7919 + salt * 104_729) % 49_000) as u32).collect()
        };
        let prompt = text(30 + index * 11 % 40, index);
        let [chosen, rejected] =
            [40 + index * 17 % 60, 30 + index * 23 % 70].map(|len| text(len, index + 100));
        tokens += 2 * prompt.len() + chosen.len() + rejected.len();
        let from = prompt.len();
        batch.push_tree(&prompt, [(&chosen[..], from), (&rejected[..], from)], &mut Vec::new());
    };
    let batches = (0..PAIRS / TOGETHER).map(|first| {
        let mut batch = Batch::new();
        (first * TOGETHER..(first + 1) * TOGETHER).for_each(|index| pair(&mut batch, index));
        batch
    });
    (batches.collect(), tokens)
}

/// Forward and backward; with the reference's log-probs computed first, if they are not at hand.
fn learn(engine: &mut CpuEngine, batch: &Batch, lora: &Lora, reference: bool) {
    if reference {
        engine.score(batch, None).unwrap();
    }
    let count = engine.forward(batch, lora, None).unwrap().log_probs.len();
    engine.backward(lora, &vec![-0.1; count], &mut vec![0.0; lora.values.len()]).unwrap();
}

fn main() {
    #[allow(clippy::disallowed_methods, reason = "a bench is told of the models by the environment")]
    let Some(models) = std::env::var_os("COLLIMATE_TEST_MODELS") else {
        println!("skipped: COLLIMATE_TEST_MODELS names no folder of real models");
        return;
    };
    let model = Model::open(&std::path::Path::new(&models).join("smol")).unwrap();
    let target_modules = Some(Targets::Names(vec!["q_proj".to_owned(), "v_proj".to_owned()]));
    let config = LoraConfig { r: 8, lora_alpha: 16.0, target_modules, ..LoraConfig::default() };
    let lora = Lora::new(config, model.config(), 0).unwrap();
    let (batches, tokens) = micro_batches();
    // Words on the command line pick what is run.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let plain = Dtype::TRAINABLE.map(|dtype| (dtype, Quantisation::None));
    let quantised = [Quantisation::Nf4, Quantisation::Int8].map(|kind| (Dtype::Bfloat16, kind));
    for (dtype, quantise) in plain.into_iter().chain(quantised) {
        if !wanted.is_empty() && !wanted.contains(&dtype.to_string()) {
            continue;
        }
        let double_quant = true;
        let options = CpuOptions { training: true, dtype, quantise, double_quant, ..CpuOptions::default() };
        let mut engine = CpuEngine::load(&model, options, |_| {}).unwrap();
        for (name, reference) in [("reference at hand", false), ("with reference", true)] {
            let mut best = vec![f64::INFINITY; batches.len()];
            for _ in 0..ROUNDS {
                for (batch, best) in batches.iter().zip(&mut best) {
                    let start = Instant::now();
                    learn(&mut engine, batch, &lora, reference);
                    *best = best.min(start.elapsed().as_secs_f64());
                }
            }
            let speed = tokens as f64 / best.iter().sum::<f64>();
            println!("{}, {name}: {speed:.0} tokens/s", engine.described());
        }
    }
}
