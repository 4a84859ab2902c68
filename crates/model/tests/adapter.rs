//! Adapters to the letter of PEFT: what PEFT wrote reads and is written back the same, what does not fit is refused.

use crate::common;
use std::collections::BTreeMap;
use std::path::Path;

use collimate_model::{DecoderConfig, Lora, LoraConfig, Module, Targets};
use serde::Deserialize;
use serde_json::{Map, Value, json};

fn decoder() -> DecoderConfig {
    DecoderConfig::read(&common::fixture("tiny-llama/config.json")).unwrap()
}

fn names(names: &[&str]) -> Option<Targets> {
    Some(Targets::Names(names.iter().map(|name| (*name).to_owned()).collect()))
}

fn paths(lora: &Lora) -> Vec<String> {
    lora.slots.iter().map(|slot| slot.module.path(slot.layer)).collect()
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn what_peft_wrote_is_written_back_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let peft = common::fixture("adapter");
    let lora = Lora::load(&peft, &decoder()).unwrap();
    lora.save(folder.path()).unwrap();
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        assert!(read(&peft, name) == read(folder.path(), name), "{name} differs");
    }
    assert_eq!(Lora::load(folder.path(), &decoder()).unwrap(), lora);
}

#[test]
fn ranks_and_scales_are_those_of_peft() {
    let text = std::fs::read_to_string(common::fixture("adapter.json")).unwrap();
    let expected: BTreeMap<String, (usize, f64)> = serde_json::from_str(&text).unwrap();
    let lora = Lora::load(&common::fixture("adapter"), &decoder()).unwrap();
    let got = lora.slots.iter().map(|slot| (slot.module.path(slot.layer), (slot.rank, slot.scale)));
    let got: BTreeMap<String, (usize, f32)> = got.collect();
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(name, (r, scale))| (name, (r, scale as f32))).collect();
    assert_eq!(got, expected);
}

#[test]
fn chosen_modules_are_those_of_peft() {
    #[derive(Deserialize)]
    struct Selection {
        config: LoraConfig,
        modules: Vec<String>,
    }
    let text = std::fs::read_to_string(common::fixture("targets.json")).unwrap();
    let selections: Vec<Selection> = serde_json::from_str(&text).unwrap();
    assert!(selections.len() > 5);
    for Selection { config, modules } in selections {
        let mut got = paths(&Lora::new(config.clone(), &decoder(), 0).unwrap());
        got.sort();
        assert_eq!(got, modules, "{:?}", config.target_modules);
    }
}

#[test]
fn slots_follow_each_other_by_layer_and_module() {
    let config =
        LoraConfig { r: 4, target_modules: names(&["down_proj", "k_proj"]), ..LoraConfig::default() };
    let lora = Lora::new(config, &decoder(), 0).unwrap();
    let order: Vec<_> = lora.slots.iter().map(|slot| (slot.layer, slot.module)).collect();
    assert_eq!(order, [(0, Module::K), (0, Module::Down), (1, Module::K), (1, Module::Down)]);
    let mut end = 0;
    for slot in &lora.slots {
        assert_eq!((slot.a.start, slot.b.start), (end, slot.a.end));
        assert_eq!((slot.a.len(), slot.b.len()), (slot.rank * slot.inputs, slot.outputs * slot.rank));
        end = slot.b.end;
    }
    assert_eq!(end, lora.values.len());
    assert_eq!((lora.slots[1].inputs, lora.slots[1].outputs, lora.slots[1].scale), (96, 64, 2.0));
}

#[test]
fn a_fresh_adapter_has_uniform_a_and_zero_b() {
    let config = LoraConfig { r: 32, target_modules: names(&["q_proj", "v_proj"]), ..LoraConfig::default() };
    let lora = Lora::new(config.clone(), &decoder(), 42).unwrap();
    for slot in &lora.slots {
        let (a, bound) = (&lora.values[slot.a.clone()], 1.0 / (slot.inputs as f32).sqrt());
        assert!(a.iter().all(|value| value.abs() <= bound));
        let count = a.len() as f32;
        let mean = a.iter().sum::<f32>() / count;
        let square = a.iter().map(|value| value * value).sum::<f32>() / count;
        // 2,048 draws: the mean's deviation is bound / √(3 · 2048) = 0.013 bound, that of the mean square
        // bound² √(4/45 / 2048) = 0.0066 bound²; both tolerances are five of them.
        assert!(mean.abs() < 0.065 * bound, "mean {mean}");
        assert!((square / (bound * bound) - 1.0 / 3.0).abs() < 0.033, "mean square {square}");
        assert!(lora.values[slot.b.clone()].iter().all(|value| *value == 0.0));
    }
    assert_eq!(Lora::new(config.clone(), &decoder(), 42).unwrap(), lora);
    assert_ne!(Lora::new(config, &decoder(), 43).unwrap().values, lora.values);
}

#[test]
fn a_slots_draws_do_not_depend_on_the_other_slots() {
    let config = |targets| LoraConfig { target_modules: names(targets), ..LoraConfig::default() };
    let one = Lora::new(config(&["v_proj"]), &decoder(), 1).unwrap();
    let two = Lora::new(config(&["q_proj", "v_proj"]), &decoder(), 1).unwrap();
    assert_eq!(one.values[one.slots[1].a.clone()], two.values[two.slots[3].a.clone()]);
}

#[test]
fn a_saved_adapter_loads_the_same_and_lists_all_linear_modules() {
    let folder = tempfile::tempdir().unwrap();
    let config = LoraConfig {
        lora_alpha: 12.5,
        lora_dropout: 0.05,
        target_modules: Some(Targets::Pattern("All-Linear".to_owned())),
        alpha_pattern: [("o_proj".to_owned(), 3.0)].into_iter().collect(),
        ..LoraConfig::default()
    };
    let lora = Lora::new(config, &decoder(), 7).unwrap();
    lora.save(&folder.path().join("new/adapter")).unwrap();
    assert_eq!(Lora::load(&folder.path().join("new/adapter"), &decoder()).unwrap(), lora);
    let saved: Value =
        serde_json::from_slice(&read(folder.path(), "new/adapter/adapter_config.json")).unwrap();
    let all = json!(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]);
    assert_eq!(saved["target_modules"], all);
    assert_eq!((&saved["lora_alpha"], &saved["alpha_pattern"]), (&json!(12.5), &json!({"o_proj": 3})));
}

#[test]
fn a_default_configuration_has_the_fields_that_peft_writes() {
    let config = LoraConfig { target_modules: names(&["q_proj"]), ..LoraConfig::default() };
    let ours: Map<String, Value> = serde_json::from_str(&config.to_json().unwrap()).unwrap();
    let peft: Map<String, Value> =
        serde_json::from_slice(&read(&common::fixture("adapter"), "adapter_config.json")).unwrap();
    assert_eq!(ours.keys().collect::<Vec<_>>(), peft.keys().collect::<Vec<_>>());
    let set_by_the_fixture = [
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "base_model_name_or_path",
    ];
    for (name, value) in peft.iter().filter(|(name, _)| !set_by_the_fixture.contains(&name.as_str())) {
        assert_eq!(&ours[name], value, "{name}");
    }
}

/// The error's text for the fixture's adapter with some fields changed.
fn refusal(changes: Value) -> String {
    let folder = common::copy("adapter");
    change_config(folder.path(), changes);
    common::text(&Lora::load(folder.path(), &decoder()).unwrap_err(), folder.path())
}

fn change_config(folder: &Path, changes: Value) {
    let mut config: Map<String, Value> =
        serde_json::from_slice(&read(folder, "adapter_config.json")).unwrap();
    config.extend(changes.as_object().unwrap().clone());
    common::write(&folder.join("adapter_config.json"), serde_json::to_string(&config).unwrap().as_bytes());
}

#[test]
fn fields_of_a_newer_peft_are_kept_where_they_do_nothing() {
    let folder = common::copy("adapter");
    change_config(
        folder.path(),
        json!({"use_something_new": false, "new_config": null, "runtime_config": {"a": 1}}),
    );
    let lora = Lora::load(folder.path(), &decoder()).unwrap();
    assert_eq!(lora.config.other["use_something_new"], json!(false));
    assert!(
        lora.config.other.contains_key("new_config") && !lora.config.other.contains_key("runtime_config")
    );
    insta::assert_snapshot!(refusal(json!({"use_something_new": true})), @"
    adapter_config.json: `use_something_new` is true, which is not supported
    help: this setting is not supported: make the adapter without it
    ");
}

#[test]
fn settings_that_change_the_mathematics_are_refused() {
    let settings = [
        json!({"ensure_weight_tying": true}),
        json!({"bias": "lora_only"}),
        json!({"modules_to_save": ["norm"]}),
        json!({"layers_pattern": "layers"}),
        json!({"layers_to_transform": 0, "target_modules": ".*"}),
        json!({"fan_in_fan_out": true}),
        json!({"lora_bias": true}),
        json!({"init_lora_weights": "pissa_niter_4"}),
        json!({"peft_type": "LOHA"}),
        json!({"task_type": "TOKEN_CLS"}),
        json!({"trainable_token_indices": [1]}),
        json!({"megatron_config": {"a": 1}}),
        json!({"r": 0}),
        json!({"lora_dropout": 1.0}),
        json!({"target_modules": null}),
    ];
    insta::assert_snapshot!(settings.map(refusal).join("\n\n"), @r#"
    adapter_config.json: `ensure_weight_tying` is true, which is not supported
    help: this setting is not supported: make the adapter without it

    adapter_config.json: `bias` is lora_only, which is not supported
    help: biases cannot be trained: set it to `none`

    adapter_config.json: `modules_to_save` is norm, which is not supported
    help: only `embed_tokens`, `lm_head` and `score`, a scalar head, can be trained whole

    adapter_config.json: `layers_pattern` is "layers", which is not supported
    help: it goes with `layers_to_transform`

    adapter_config.json: `layers_to_transform` is 0, which is not supported
    help: it goes with a list of `target_modules`: let the regular expression choose the layers instead

    adapter_config.json: `fan_in_fan_out` is true, which is not supported
    help: this setting is not supported: make the adapter without it

    adapter_config.json: `lora_bias` is true, which is not supported
    help: this setting is not supported: make the adapter without it

    adapter_config.json: `init_lora_weights` is "pissa_niter_4", which is not supported
    help: it changes the base model's weights: convert the adapter to a plain LoRA with PEFT first

    adapter_config.json: `peft_type` is LOHA, which is not supported
    help: the adapter must be a LORA

    adapter_config.json: `task_type` is TOKEN_CLS, which is not supported
    help: the adapter must be for CAUSAL_LM, or for SEQ_CLS with one label

    adapter_config.json: `trainable_token_indices` is [1], which is not supported
    help: this setting is not supported: make the adapter without it

    adapter_config.json: `megatron_config` is {"a":1}, which is not supported
    help: this setting is not supported: make the adapter without it

    adapter_config.json: `r` should be between 1 and 65536, but is 0
    help: correct it there; a file that came from elsewhere can be fetched again

    adapter_config.json: `lora_dropout` should be at least 0 and below 1, but is 1
    help: correct it there; a file that came from elsewhere can be fetched again

    adapter_config.json: `target_modules` should be a list of names, a regular expression or "all-linear", but is missing
    help: correct it there; a file that came from elsewhere can be fetched again
    "#);
}

#[test]
fn an_adapter_for_another_model_is_refused_with_the_tensor() {
    let adapter = common::fixture("adapter");
    let refusal =
        |decoder: &DecoderConfig| common::text(&Lora::load(&adapter, decoder).unwrap_err(), &adapter);
    let decoders = [
        DecoderConfig { hidden_size: 32, ..decoder() },
        DecoderConfig { num_hidden_layers: 1, ..decoder() },
        DecoderConfig { num_hidden_layers: 3, ..decoder() },
    ];
    insta::assert_snapshot!(decoders.map(|decoder| refusal(&decoder)).join("\n\n"), @"
    adapter_model.safetensors: the tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` should have the shape [3, 32], but has [3, 64]
    help: weights and configuration belong to two models: name the model that the adapter was made for, or fetch both anew

    adapter_model.safetensors: the tensor `base_model.model.model.layers.1.mlp.up_proj.lora_A.weight` fits nowhere in the model
    help: the adapter was made for another model, or its `target_modules` do not cover what it trained

    adapter_model.safetensors: the tensor `base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight` is missing
    help: the weights and their configuration do not belong together, or a file is missing; the nearest name there is `base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight`
    ");
}

#[test]
fn a_folder_that_is_no_adapter_is_refused() {
    let folder = common::fixture("tiny-llama");
    insta::assert_snapshot!(common::text(&Lora::load(&folder, &decoder()).unwrap_err(), &folder), @"
    FOLDER: there is no adapter_config.json in it
    help: give an adapter folder as PEFT writes it, with adapter_config.json and adapter_model.safetensors
    ");
}

#[test]
fn targets_that_cannot_be_are_refused() {
    let refusal = |targets: Targets| {
        let config = LoraConfig { target_modules: Some(targets), ..LoraConfig::default() };
        common::text(&Lora::new(config, &decoder(), 0).unwrap_err(), Path::new("/nowhere"))
    };
    let pattern = |pattern: &str| Targets::Pattern(pattern.to_owned());
    let refusals = [
        refusal(names(&["q_proj", "v_porj"]).unwrap()),
        refusal(names(&["q_proj", "lm_head"]).unwrap()),
        refusal(names(&[]).unwrap()),
        refusal(pattern(r".*self_attn.*")),
        refusal(pattern(r"q_proj")),
        refusal(pattern(r".*\.(q|v_proj")),
        // Backtracks without end, unless it is stopped.
        refusal(pattern(r"((?=[a-z])[a-z._0-9]+)+\1@")),
    ];
    insta::assert_snapshot!(refusals.join("\n\n"), @r#"
    `target_modules`: `v_porj` matches no module of the model; did you mean `v_proj`?
    help: adaptable modules: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; or "all-linear" for all of them

    `target_modules`: it matches `lm_head`, which cannot be adapted
    help: adaptable modules: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; or "all-linear" for all of them

    `target_modules`: it matches no module of the model
    help: adaptable modules: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; or "all-linear" for all of them

    `target_modules`: it matches `model.layers.0.self_attn`, which cannot be adapted
    help: adaptable modules: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; or "all-linear" for all of them

    `target_modules`: it matches no module of the model
    help: adaptable modules: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; or "all-linear" for all of them

    `target_modules`: the regular expression `.*\.(q|v_proj` cannot be used: Parsing error at position 13: Opening parenthesis without closing parenthesis
    help: a module name must match it in full, e.g. `.*\.(q|v)_proj`

    `target_modules`: the regular expression `((?=[a-z])[a-z._0-9]+)+\1@` cannot be used: Error executing regex: Max limit for backtracking count exceeded
    help: a module name must match it in full, e.g. `.*\.(q|v)_proj`
    "#);
}

#[test]
fn patterns_that_cannot_be_are_refused() {
    let refusal = |ranks: &[(&str, usize)], alphas: &[(&str, f64)]| {
        let config = LoraConfig {
            target_modules: names(&["q_proj", "v_proj"]),
            rank_pattern: ranks.iter().map(|(key, rank)| ((*key).to_owned(), *rank)).collect(),
            alpha_pattern: alphas.iter().map(|(key, alpha)| ((*key).to_owned(), *alpha)).collect(),
            ..LoraConfig::default()
        };
        let made = Lora::new(config, &decoder(), 0);
        made.map_or_else(|error| common::text(&error, Path::new("/nowhere")), |_| "none".to_owned())
    };
    let refusals = [
        refusal(&[("q_proj", 4), (r"layers\.1\..*", 2)], &[("self_attn.v_proj", 2.0)]),
        refusal(&[("v_porj", 4)], &[]),
        refusal(&[], &[("up_proj", 2.0)]),
        refusal(&[("q_proj", 0)], &[]),
        refusal(&[], &[("q_proj", f64::NAN)]),
    ];
    insta::assert_snapshot!(refusals.join("\n\n"), @r"
    none

    `rank_pattern`: the regular expression `v_porj` cannot be used: it fits no module that is adapted; did you mean `v_proj`?
    help: a module name must match it in full, e.g. `.*\.(q|v)_proj`

    `alpha_pattern`: the regular expression `up_proj` cannot be used: it fits no module that is adapted
    help: a module name must match it in full, e.g. `.*\.(q|v)_proj`

    adapter configuration: `rank_pattern` should be between 1 and 65536, but is 0
    help: correct it there; a file that came from elsewhere can be fetched again

    adapter configuration: `alpha_pattern` should be a number, but is NaN
    help: correct it there; a file that came from elsewhere can be fetched again
    ");
}

#[test]
fn a_rank_beyond_memory_is_refused() {
    let decoder = DecoderConfig {
        hidden_size: 1 << 24,
        intermediate_size: 1 << 24,
        num_hidden_layers: 4096,
        ..decoder()
    };
    let config = LoraConfig { r: 1 << 16, target_modules: names(&["up_proj"]), ..LoraConfig::default() };
    let error = Lora::new(config, &decoder, 0).unwrap_err();
    insta::assert_snapshot!(common::text(&error, Path::new("/nowhere")), @"
    adapter configuration: `r` should be small enough for the memory, but is 9007199254740992 parameters in all
    help: correct it there; a file that came from elsewhere can be fetched again
    ");
}
