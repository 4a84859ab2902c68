//! `model plan` on a tiny model: what it counts, what it advises, and that it needs no weights.

use crate::common::{config, fixtures};
use collimate_engine::{CpuEngine, CpuOptions};
use collimate_model::{Lora, LoraConfig, Model};
use collimate_stages::model::plan::{Config, Plan, Workers, plan};

fn planned(words: &[&str]) -> Plan {
    let model = format!("--model_name_or_path={}", fixtures().join("tiny/llama").display());
    plan(&config::<Config>(&[&[model.as_str()], words].concat()), Some(2)).unwrap()
}

fn part(plan: &Plan, name: &str) -> u64 {
    plan.memory.parts.iter().find(|part| part.name == name).map_or(0, |part| part.bytes)
}

#[test]
fn memory_is_what_the_engine_plans_of_the_loaded_model() {
    let found =
        planned(&["--max_length=100", "--max_completion_length=30", "--max_tokens_per_micro_batch=250"]);
    assert_eq!(found.micro_batch, [250, 60]);
    let model = Model::open(&fixtures().join("tiny/llama")).unwrap();
    // Eight examples, two in a micro-batch: a tree of three levels, which holds two gradients more than one.
    let options = CpuOptions { training: true, threads: Some(2), more_gradients: 2, ..CpuOptions::default() };
    let engine = CpuEngine::load(&model, options, |_| {}).unwrap();
    let names = ["q_proj", "v_proj"].map(str::to_owned).to_vec();
    let target_modules = Some(collimate_model::Targets::Names(names));
    let lora = Lora::new(LoraConfig { target_modules, ..LoraConfig::default() }, model.config(), 1).unwrap();
    assert_eq!(found.trainable_parameters, lora.values.len() as u64);
    for (name, bytes) in engine.plan(250, 60, &lora).parts() {
        assert_eq!(part(&found, name), bytes, "{name}");
    }
    assert_eq!(found.memory.total, found.memory.parts.iter().map(|part| part.bytes).sum::<u64>());
    assert!(found.speed.tokens_per_second > 0.0 && found.speed.tokens_per_second.is_finite());
}

#[test]
fn a_config_alone_is_enough_and_a_device_is_computed() {
    let path = fixtures().join("tiny/llama/config.json");
    let words = ["--device=h200", "--dtype=bfloat16", "--dataset_tokens=1000000", "--num_train_epochs=2"];
    let of = |path: &std::path::Path| {
        let model = format!("--model_name_or_path={}", path.display());
        plan(&config::<Config>(&[&[model.as_str()], &words[..]].concat()), Some(2)).unwrap()
    };
    let (alone, folder) = (of(&path), of(path.parent().unwrap()));
    assert_eq!((alone.parameters, alone.rates, alone.speed), (folder.parameters, folder.rates, folder.speed));
    assert_eq!(alone.memory.limit, Some(141_000_000_000));
    let seconds = alone.speed.seconds.unwrap();
    let expected = 2e6 / alone.speed.tokens_per_second;
    assert!((seconds / expected - 1.0).abs() < 0.01, "{seconds} {expected}");
}

#[test]
fn what_does_not_fit_is_advised_to_fit() {
    let found = planned(&["--full", "--memory=1MB", "--max_length=600", "--device=m3-max"]);
    assert!(!found.memory.fits);
    let settings: Vec<&str> = found.memory.advice.iter().map(|advice| advice.setting.as_str()).collect();
    assert!(settings.iter().any(|setting| setting.starts_with("--optim adamw_8bit")), "{settings:?}");
    assert!(settings.iter().any(|setting| setting.starts_with("--max_length 300")), "{settings:?}");
    assert!(found.memory.advice.iter().all(|advice| advice.total < found.memory.total));
}

#[test]
fn methods_differ_in_what_an_example_is() {
    let of = |method: &str, words: &[&str]| {
        let method = format!("--method={method}");
        planned(&[&["--max_length=64", "--device=a100-80g", method.as_str()], words].concat())
    };
    let (sft, dpo, grpo) =
        (of("sft", &[]), of("dpo", &["--dataset_tokens=9600"]), of("grpo", &["--num_generations=4"]));
    assert_eq!([sft.example.tokens(), dpo.example.tokens(), grpo.example.tokens()], [64, 96, 32 + 4 * 32]);
    assert!(dpo.speed.reference_seconds.is_some() && sft.speed.reference_seconds.is_none());
    assert!(grpo.speed.writing_seconds > 0.0 && part(&grpo, "completions") > 0);
}

/// A step of 24 micro-batches of one sequence each, on devices whose figures are known.
fn on_workers(words: &[&str]) -> Plan {
    let batch = ["--per_device_train_batch_size=24", "--gradient_accumulation_steps=1"];
    let length = ["--max_length=64", "--max_tokens_per_micro_batch=64", "--device=epyc-9654"];
    planned(&[&batch[..], &length, words].concat())
}

#[test]
fn one_worker_takes_what_one_run_takes() {
    for method in ["sft", "kto", "grpo"] {
        let method = format!("--method={method}");
        let found = on_workers(&["--workers=1", &method]);
        let (workers, speed) = (found.workers.unwrap(), found.speed);
        let [only] = workers.scaled[..] else { panic!("{workers:?}") };
        assert!((only.seconds_per_step / speed.seconds_per_step - 1.0).abs() < 1e-9, "{only:?} {speed:?}");
        assert!((only.tokens_per_second / speed.tokens_per_second - 1.0).abs() < 1e-9, "{only:?} {speed:?}");
        assert_eq!((only.sent, only.exchange, only.memory_per_node), (0, 0.0, found.memory.total));
        assert!((only.efficiency - 1.0).abs() < 1e-9);
    }
}

#[test]
fn an_endless_network_leaves_the_dearest_share() {
    let found = on_workers(&["--workers=5", "--network=1000000000GB,0us", "--full"]);
    let workers = found.workers.unwrap();
    assert_eq!(workers.micro_batches, 24);
    let counts: Vec<usize> = workers.scaled.iter().map(|scaled| scaled.workers).collect();
    assert_eq!(counts, [1, 2, 4, 5]);
    for scaled in &workers.scaled {
        // The dearest of five shares has five micro-batches, on a node that is slower by at most 5 %; what is left are
        // sums and copies of gradients, and the update.
        let bound = 64.0 * (24_f64 / scaled.workers as f64).ceil() / found.speed.tokens_per_second;
        assert!(scaled.exchange < 1e-6);
        assert!(scaled.seconds_per_step > 0.9 * bound && scaled.seconds_per_step < 1.5 * bound, "{scaled:?}");
    }
}

#[test]
fn a_slower_network_and_larger_gradients_cost_more() {
    let of = |words: &[&str]| on_workers(&[&["--workers=8"], words].concat()).workers.unwrap();
    let seconds =
        |workers: &Workers| workers.scaled.iter().map(|scaled| scaled.seconds_per_step).collect::<Vec<_>>();
    let [fast, slow] = ["--network=infiniband-ndr", "--network=ethernet-1g"].map(|network| of(&[network]));
    let full = of(&["--network=ethernet-1g", "--full"]);
    let gradient = full.gradient;
    assert!(fast.gradient == slow.gradient && slow.gradient < full.gradient);
    for (fast, slow) in seconds(&fast).into_iter().zip(seconds(&slow)).skip(1) {
        assert!(fast < slow);
    }
    for (adapter, full) in slow.scaled.iter().zip(&full.scaled).skip(1) {
        assert!(adapter.efficiency > full.efficiency && adapter.sent < full.sent, "{adapter:?} {full:?}");
        // Each gradient of another worker goes to one place, and the sum to all.
        assert!(full.sent >= 2 * gradient * (full.workers as u64 - 1), "{full:?}");
    }
}

#[test]
fn workers_of_one_machine_have_no_nodes() {
    let words = ["--workers=4", "--workers_per_node=2"];
    let model = format!("--model_name_or_path={}", fixtures().join("tiny/llama").display());
    let error = plan(&config::<Config>(&[&[model.as_str()], &words[..]].concat()), Some(1)).unwrap_err();
    assert!(error.to_string().starts_with("workers_per_node is of no use here"), "{error}");
    let found = on_workers(&["--workers=4", "--workers_per_node=2", "--network=ethernet-10g"]);
    let last = found.workers.unwrap().scaled[2];
    assert_eq!((last.workers, last.nodes), (4, 2));
    assert!(last.memory_per_node >= 2 * found.memory.total);
}

/// What is measured has one layer, or three, whatever the adapter says of the model's.
#[test]
fn adapters_of_single_layers_are_measured() {
    let of = |words: &[&str]| planned(&[&["--max_length=32"], words].concat()).rates.layer;
    let patterns = ["--rank_pattern=layers.1.mlp.up_proj=4", "--lora_target_modules=all-linear"];
    assert!(of(&patterns) > 0.0);
    assert!(of(&["--lora_target_modules=.*\\.1\\.mlp\\.(up|down)_proj"]) > 0.0);
    assert!(of(&["--lora_target_modules=layers.1.self_attn.q_proj"]) > 0.0);
}

#[test]
fn workers_that_a_node_cannot_hold_are_marked() {
    let of = |words: &[&str]| {
        let words = [&["--workers=2", "--workers_per_node=2", "--network=ethernet-10g"], words].concat();
        planned(&words).workers.unwrap().scaled
    };
    // A device has its memory to itself, and so has a worker that is told how much; this machine's is shared.
    let large = of(&["--device=h200"]);
    let limits: Vec<Option<u64>> = large.iter().map(|scaled| scaled.limit_per_node).collect();
    assert_eq!(limits, [Some(141_000_000_000), Some(282_000_000_000)]);
    assert!(large.iter().all(|scaled| scaled.fits));
    let small = of(&["--memory=1MB"]);
    assert_eq!(small[1].limit_per_node, Some(2_000_000));
    assert!(!small.iter().any(|scaled| scaled.fits));
    let here = of(&[]);
    assert_eq!(here[0].limit_per_node, here[1].limit_per_node);
}

#[test]
fn copies_of_the_adapter_count_where_a_policy_writes() {
    let copies = |method: &str, words: &[&str]| {
        let method = format!("--method={method}");
        let words =
            [&["--max_length=64", "--device=h200", "--num_generations=2", method.as_str()], words].concat();
        let found = planned(&words);
        (part(&found, "copies"), 4 * found.trainable_parameters)
    };
    assert_eq!(copies("dpo", &["--modules_to_save=lm_head"]).0, 0);
    // The adapter, and its matrices turned.
    let (plain, slots) = copies("grpo", &[]);
    assert_eq!(plain, 2 * slots);
    // The adapter, its head packed, its matrices turned; and the reference's adapter.
    let (whole, values) = copies("grpo", &["--modules_to_save=lm_head"]);
    assert_eq!(whole, 2 * values + (values - slots) + slots);
}

#[test]
fn training_all_of_a_quantised_model_is_refused_before_it_is_read() {
    let words = ["--model_name_or_path=nowhere", "--full", "--quantise=nf4"];
    let error = plan(&config::<Config>(&words), Some(1)).unwrap_err();
    let quantise = collimate_engine::Quantisation::Nf4;
    assert_eq!(error.to_string(), collimate_engine::Error::QuantisedWhole { quantise }.to_string());
}
