//! Adapters of other kinds than plain LoRA, and adapters beside a few modules: on both engines.

use crate::parity::{
    Both, assert_same_gradients, assert_same_scores, batch, distance, outcome, places, tiny,
};
use crate::support::fixtures;
use collimate_engine::{Batch, Dropout, Dtype, Engine};
use collimate_model::{Lora, LoraConfig, Model, OneOrMore, Targets, Trainable};
use std::collections::BTreeMap;

const DROPOUTS: [Option<Dropout>; 2] = [None, Some(Dropout { probability: 0.3, seed: 11 })];

/// The names of the recorded adapters, with the models that they belong to.
fn relatives() -> BTreeMap<String, String> {
    let recorded = std::fs::read(fixtures().join("relatives/expected.json")).unwrap();
    let recorded: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&recorded).unwrap();
    recorded.into_iter().map(|(name, value)| (name, value["base"].as_str().unwrap().to_owned())).collect()
}

/// DoRA, embeddings and heads that are trained whole, some layers alone, ranks and scales by patterns.
#[test]
fn loras_relatives_score_and_learn_alike() {
    for (name, base) in relatives() {
        let model = tiny(&base).0;
        let lora = Lora::load(&fixtures().join("relatives").join(&name), model.config()).unwrap();
        let batch = batch(model.config().vocab_size as u32);
        let batch = Batch { readouts: Vec::new(), ..batch };
        let trained: Trainable = lora.into();
        let mut both = Both::of(model, Dtype::Float32);
        for dropout in DROPOUTS {
            let case = format!("{name}, {dropout:?}");
            let [device, cpu] = both.run(&batch, &trained, dropout);
            assert_same_scores(&device.scores, &cpu.scores, 1e-5, &case);
            let gradients = [&device.gradient[..], &cpu.gradient];
            assert_same_gradients(gradients, &places(&trained), 1e-4, &case);
        }
    }
}

/// An adapter with numbers in all matrices, beside these modules of these layers.
fn beside(model: &Model, modules: &[&str], layers: Option<Vec<usize>>) -> Lora {
    let config = LoraConfig {
        r: 3,
        target_modules: Some(Targets::Names(modules.iter().map(|&name| name.to_owned()).collect())),
        layers_to_transform: layers.map(OneOrMore::More),
        ..LoraConfig::default()
    };
    let mut lora = Lora::beside(config, model, 9).unwrap();
    lora.values.iter_mut().enumerate().for_each(|(i, value)| *value += 0.1 * (i as f32 * 1.3).cos());
    lora
}

/// What is not needed for the lowest trained module is not walked; what is needed must be.
#[test]
fn an_adapter_beside_any_module_learns_alike() {
    let all = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    // The second has norms behind its sublayers, the third over its heads.
    for name in ["llama", "gemma2", "qwen3"] {
        let mut both = Both::of(tiny(name).0, Dtype::Float32);
        let batch = batch(both.model.config().vocab_size as u32);
        let batch = Batch { readouts: Vec::new(), ..batch };
        for module in all {
            for layers in [None, Some(vec![1])] {
                let case = format!("{name}, {module} of {layers:?}");
                let trained: Trainable = beside(&both.model, &[module], layers).into();
                let [device, cpu] = both.run(&batch, &trained, None);
                assert_same_scores(&device.scores, &cpu.scores, 1e-5, &case);
                let gradients = [&device.gradient[..], &cpu.gradient];
                assert_same_gradients(gradients, &places(&trained), 1e-4, &case);
            }
        }
    }
}

/// B is zero at the start, so that the slots change nothing.
#[test]
fn a_head_without_slots_learns_as_with_them() {
    let mut both = Both::of(tiny("llama").0, Dtype::Float32);
    let config = LoraConfig {
        target_modules: Some(Targets::Pattern("all-linear".into())),
        modules_to_save: Some(vec!["lm_head".into()]),
        ..LoraConfig::default()
    };
    let mut lora = Lora::beside(config, &both.model, 1).unwrap();
    let batch = Batch { readouts: Vec::new(), ..batch(both.model.config().vocab_size as u32) };
    let head = lora.head.clone().unwrap();
    let with_slots = outcome(&mut both.device, &batch, &lora, None).gradient[head.clone()].to_vec();
    lora.slots.clear();
    let without = outcome(&mut both.device, &batch, &lora, None).gradient;
    assert!(without[head.clone()] == with_slots);
    assert!(distance(&with_slots, &outcome(&mut both.cpu, &batch, &lora, None).gradient[head]) < 1e-4);
}

#[test]
fn an_adapter_is_read_anew_by_every_pass() {
    let (model, mut lora) = tiny("qwen2");
    let mut both = Both::of(model, Dtype::Float32);
    let batch = Batch { readouts: Vec::new(), ..batch(both.model.config().vocab_size as u32) };
    let before = both.device.score(&batch, Some(&lora)).unwrap().log_probs.clone();
    lora.values.iter_mut().for_each(|value| *value *= 1.1);
    let after = both.device.score(&batch, Some(&lora)).unwrap().clone();
    assert_ne!(before, after.log_probs);
    assert_same_scores(&after, both.cpu.score(&batch, Some(&lora)).unwrap(), 1e-5, "qwen2");
}
