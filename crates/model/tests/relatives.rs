//! Adapters of LoRA's relatives (`fixtures/relatives`, which PEFT wrote): read, written back, begun, merged.

use crate::common;
use std::path::{Path, PathBuf};

use collimate_model::{
    DecoderConfig, InitLoraWeights, Lora, LoraConfig, Model, OneOrMore, SaveOptions, SublayerNorms, Targets,
    Trainable,
};
use serde_json::json;

/// Each adapter's folder, and the model that it stands on.
fn relatives() -> Vec<(PathBuf, Model)> {
    let shared = common::fixture("../../../../fixtures");
    let expected = std::fs::read(shared.join("relatives/expected.json")).unwrap();
    let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&expected).unwrap();
    assert!(expected.len() >= 6);
    let open = |(name, recorded): (&String, &serde_json::Value)| {
        let base = shared.join("tiny").join(recorded["base"].as_str().unwrap());
        (shared.join("relatives").join(name), Model::open(&base).unwrap())
    };
    expected.iter().map(open).collect()
}

fn config(modules: &[&str]) -> LoraConfig {
    let names = modules.iter().map(|name| (*name).to_owned()).collect();
    LoraConfig { target_modules: Some(Targets::Names(names)), ..LoraConfig::default() }
}

#[test]
fn what_peft_wrote_is_written_back_to_the_byte() {
    for (peft, model) in relatives() {
        let folder = tempfile::tempdir().unwrap();
        let lora = Lora::load(&peft, model.config()).unwrap();
        lora.save(folder.path()).unwrap();
        for name in ["adapter_model.safetensors", "adapter_config.json"] {
            let [theirs, ours] =
                [&peft, folder.path()].map(|folder| std::fs::read(folder.join(name)).unwrap());
            assert!(theirs == ours, "{}, {name}", peft.display());
        }
        let lora = Trainable::from(lora);
        assert!(lora.load_like(folder.path(), model.config()).unwrap() == lora);
    }
}

#[test]
fn the_parts_follow_each_other() {
    for (peft, model) in relatives() {
        let lora = Lora::load(&peft, model.config()).unwrap();
        let lora = lora.with_score(model.config(), 1);
        let slots = lora.slots.iter().map(collimate_model::LoraSlot::range);
        let whole = [&lora.embedding, &lora.head, &lora.score].into_iter().flatten().cloned();
        let end = slots.chain(whole).fold(0, |end, range| {
            assert_eq!(range.start, end);
            range.end
        });
        assert_eq!(end, lora.values.len());
        let config = lora.config.modules_to_save.clone().unwrap();
        assert_eq!(config.last().unwrap(), "score");
        let without = lora.clone().without_score();
        assert_eq!(without, Lora::load(&peft, model.config()).unwrap());
    }
}

#[test]
fn a_fresh_one_begins_as_the_model() {
    let model = Model::open(&common::fixture("tiny-llama")).unwrap();
    let config = LoraConfig {
        use_dora: true,
        modules_to_save: Some(vec!["lm_head".to_owned(), "embed_tokens".to_owned()]),
        layers_to_transform: Some(OneOrMore::One(1)),
        ..config(&["k_proj"])
    };
    let lora = Lora::beside(config.clone(), &model, 3).unwrap();
    let mut weight = Vec::new();
    for (name, place) in [("model.embed_tokens.weight", &lora.embedding), ("lm_head.weight", &lora.head)] {
        let name = if name == "lm_head.weight" && !model.config().has_lm_head() {
            "model.embed_tokens.weight"
        } else {
            name
        };
        model.read(name, &mut weight).unwrap();
        assert_eq!(lora.values[place.clone().unwrap()], weight);
    }
    let [slot] = lora.slots.as_slice() else { panic!("{:?}", lora.slots) };
    model.read("model.layers.1.self_attn.k_proj.weight", &mut weight).unwrap();
    let lengths = weight.chunks(slot.inputs).map(|row| row.iter().map(|w| w * w).sum::<f32>().sqrt());
    for (magnitude, length) in lora.values[slot.magnitude.clone().unwrap()].iter().zip(lengths) {
        assert!((magnitude / length - 1.0).abs() < 1e-6);
    }
    let plain =
        Lora::new(LoraConfig { use_dora: false, modules_to_save: None, ..config.clone() }, model.config(), 3);
    let plain = plain.unwrap();
    assert_eq!(plain.values[plain.slots[0].a.clone()], lora.values[slot.a.clone()]);
    insta::assert_snapshot!(common::text(&Lora::new(config, model.config(), 3).unwrap_err(), Path::new("/nowhere")), @"
    adapter configuration: `use_dora` is true, which is not supported
    help: it begins from a model's weights: make the adapter beside the model
    ");
}

#[test]
fn a_layer_that_the_model_lacks_is_refused() {
    let model = Model::open(&common::fixture("tiny-llama")).unwrap();
    let layers_to_transform = Some(OneOrMore::More(vec![0, 2]));
    let config = LoraConfig { layers_to_transform, ..config(&["k_proj"]) };
    insta::assert_snapshot!(common::text(&Lora::new(config, model.config(), 0).unwrap_err(), Path::new("/nowhere")), @r#"
    `target_modules`: `layers_to_transform` asks for layer 2; the model has 0 to 1
    help: adaptable modules: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; or "all-linear" for all of them
    "#);
}

#[test]
fn a_merged_model_saves_as_it_reads_and_is_tied_no_more() {
    for (peft, model) in relatives() {
        let lora = Lora::load(&peft, model.config()).unwrap();
        let (tied, whole) =
            (model.config().tie_word_embeddings, lora.embedding.is_some() || lora.head.is_some());
        let merged = model.merged(lora.clone()).unwrap();
        assert_eq!(merged.config().tie_word_embeddings, tied && !whole);
        let folder = tempfile::tempdir().unwrap();
        merged.save(folder.path(), SaveOptions::default()).unwrap();
        let again = Model::open(folder.path()).unwrap();
        assert_eq!(again.config(), merged.config());
        let (mut ours, mut stored) = (Vec::new(), Vec::new());
        for (name, _) in merged.config().weights() {
            merged.read(&name, &mut ours).unwrap();
            again.read(&name, &mut stored).unwrap();
            assert_eq!(ours, stored, "{}, {name}", peft.display());
        }
        for slot in lora.slots.iter().filter(|slot| slot.magnitude.is_some()) {
            again.read(&format!("{}.weight", slot.module.path(slot.layer)), &mut stored).unwrap();
            let magnitudes = &lora.values[slot.magnitude.clone().unwrap()];
            for (row, magnitude) in stored.chunks(slot.inputs).zip(magnitudes) {
                let length = row.iter().map(|w| w * w).sum::<f32>().sqrt();
                assert!((length - magnitude.abs()).abs() < 1e-5 * length, "{}", peft.display());
            }
        }
    }
}

#[test]
fn what_is_no_sum_is_not_weighed() {
    for (peft, model) in relatives() {
        let lora = Lora::load(&peft, model.config()).unwrap();
        let read = |model: &Model| {
            let mut all = Vec::new();
            for (name, _) in model.config().weights() {
                let mut weight = Vec::new();
                model.read(&name, &mut weight).unwrap();
                all.extend(weight);
            }
            all
        };
        let again = || Model::open(model.path()).unwrap();
        let one = again().merged_weighted(lora.clone(), 1.0).unwrap();
        assert_eq!(read(&one), read(&again().merged(lora.clone()).unwrap()));
        let half = again().merged_weighted(lora.clone(), 0.5);
        assert_eq!(half.is_ok(), lora.is_plain(), "{}", peft.display());
        let Err(refusal) = half else { continue };
        let said = common::text(&refusal, model.path());
        assert!(
            said.starts_with("FOLDER: `adapter_weights` is 0.5") && said.ends_with("give it the weight 1"),
            "{said}"
        );
    }
}

#[test]
fn norms_that_a_model_has_are_not_to_be_adapted() {
    let mut decoder = Model::open(&common::fixture("tiny-llama")).unwrap().config().clone();
    let fresh = |pattern: &str, decoder: &DecoderConfig| {
        let target_modules = Some(Targets::Pattern(pattern.to_owned()));
        Lora::new(LoraConfig { target_modules, ..LoraConfig::default() }, decoder, 0)
    };
    let patterns = [r".*\.self_attn\.(q|k)_.*", r".*\.(up_proj|(pre|post)_feedforward_layernorm)"];
    for pattern in patterns {
        assert!(fresh(pattern, &decoder).is_ok(), "{pattern}");
    }
    (decoder.qk_norm, decoder.sublayer_norms) = (true, SublayerNorms::Around);
    let refusals = patterns.map(|pattern| fresh(pattern, &decoder).unwrap_err().to_string());
    assert_eq!(
        refusals,
        ["self_attn.q_norm", "pre_feedforward_layernorm"].map(|part| format!(
            "`target_modules`: it matches `model.layers.0.{part}`, which cannot be adapted"
        ))
    );
}

#[test]
fn a_file_that_does_not_fit_its_configuration_is_refused() {
    for (peft, model) in relatives() {
        let folder = tempfile::tempdir().unwrap();
        let lora = Lora::load(&peft, model.config()).unwrap();
        lora.save(folder.path()).unwrap();
        let path = folder.path().join("adapter_config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["use_dora"] = json!(!lora.config.use_dora);
        common::write(&path, config.to_string().as_bytes());
        assert!(Lora::load(folder.path(), model.config()).is_err());
        config["use_dora"] = json!(lora.config.use_dora);
        config["modules_to_save"] = if lora.head.is_some() { json!(null) } else { json!(["lm_head"]) };
        common::write(&path, config.to_string().as_bytes());
        assert!(Lora::load(folder.path(), model.config()).is_err());
    }
}

fn pissa(modules: &[&str]) -> LoraConfig {
    LoraConfig { init_lora_weights: InitLoraWeights::Pissa.into(), ..config(modules) }
}

fn error_text(config: LoraConfig, model: &Model) -> String {
    common::text(&Lora::beside(config, model, 0).unwrap_err(), model.path())
}

#[test]
fn what_cannot_begin_within_the_weights_is_refused() {
    let model = Model::open(&common::fixture("tiny-llama")).unwrap();
    let (q, iterated) = (pissa(&["q_proj"]), InitLoraWeights::PissaIterated(1).into());
    let refusals = [
        error_text(LoraConfig { r: 65, init_lora_weights: iterated, ..q.clone() }, &model),
        error_text(LoraConfig { lora_alpha: -2.0, ..q.clone() }, &model),
        error_text(
            LoraConfig { alpha_pattern: [("q_proj".into(), 0.0)].into_iter().collect(), ..q.clone() },
            &model,
        ),
        error_text(LoraConfig { lora_alpha: 1.5e308, r: 64, ..q.clone() }, &model),
        error_text(LoraConfig { init_lora_weights: json!("gaussian"), ..q.clone() }, &model),
        error_text(LoraConfig { init_lora_weights: json!("true"), ..q.clone() }, &model),
        common::text(&Lora::new(q, model.config(), 0).unwrap_err(), model.path()),
    ];
    insta::assert_snapshot!(refusals.join("\n\n"));
}

#[test]
fn weights_that_are_no_numbers_have_no_principal_part() {
    let model = Model::open(&common::fixture("tiny-llama")).unwrap();
    let mut lora = Lora::new(config(&["q_proj"]), model.config(), 0).unwrap();
    let b = lora.slots[1].b.clone();
    lora.values[b].fill(f32::INFINITY);
    let broken = model.merged(lora).unwrap();
    insta::assert_snapshot!(error_text(pissa(&["q_proj", "v_proj"]), &broken));
    // Zeros are numbers: their part is nothing at all.
    let model = Model::open(&common::fixture("tiny-llama")).unwrap();
    let (whole, mut weight) = (Lora::beside(pissa(&["q_proj"]), &model, 0).unwrap(), Vec::new());
    let name = "model.layers.0.self_attn.q_proj.weight";
    let whole =
        Lora::beside(LoraConfig { r: whole.slots[0].inputs, ..pissa(&["q_proj"]) }, &model, 0).unwrap();
    let model = model.without_start(&whole).unwrap();
    model.read(name, &mut weight).unwrap();
    assert!(weight.iter().all(|x| x.abs() < 1e-6));
    let again = Lora::beside(pissa(&["q_proj"]), &model, 0).unwrap();
    assert!(again.values.iter().all(|x| x.abs() < 1e-3));
}

/// All shapes of a saved one: with magnitudes, with what is trained whole, with patterns.
#[test]
fn what_began_within_the_weights_is_saved_as_the_difference_and_read_back() {
    let model = Model::open(&common::fixture("tiny-llama")).unwrap();
    let config = LoraConfig {
        use_dora: true,
        use_rslora: true,
        modules_to_save: Some(vec!["lm_head".to_owned(), "score".to_owned()]),
        rank_pattern: [("v_proj".to_owned(), 3)].into_iter().collect(),
        alpha_pattern: [("k_proj".to_owned(), 2.5)].into_iter().collect(),
        ..pissa(&["q_proj", "k_proj", "v_proj", "down_proj"])
    };
    let begun = Lora::beside(config, &model, 3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut learnt = begun.clone();
    learnt.values.iter_mut().enumerate().for_each(|(i, x)| *x += 0.01 * (i as f32).sin());
    learnt.save(folder.path()).unwrap();
    // Another reader knows nothing of it.
    let plain = Lora::load(folder.path(), model.config()).unwrap();
    assert_eq!(plain.values, learnt.difference().values);
    for (own, saved) in learnt.slots.iter().zip(&plain.slots) {
        assert_eq!(saved.rank, 2 * own.rank);
        assert!((saved.scale / own.scale - 1.0).abs() < 1e-6, "{} {}", saved.scale, own.scale);
    }
    let like = Trainable::from(begun.clone());
    assert!(like.load_like(folder.path(), model.config()).unwrap() == Trainable::from(learnt.clone()));
    // Beside the model it is what the other is beside what is left of it.
    let (name, mut beside, mut within) = ("model.layers.0.mlp.down_proj.weight", Vec::new(), Vec::new());
    let open = || Model::open(&common::fixture("tiny-llama")).unwrap();
    open().merged(plain).unwrap().read(name, &mut beside).unwrap();
    open().without_start(&learnt).unwrap().merged(learnt.clone()).unwrap().read(name, &mut within).unwrap();
    assert!(beside.iter().zip(&within).all(|(x, y)| (x - y).abs() < 1e-5));

    let again = |config| Lora::begun_before(config, &model, 3, folder.path());
    assert!(again(begun.config.clone()).unwrap() == begun);
    assert!(again(pissa(&["q_proj"])).is_err());
    // One that began otherwise is not that of this training.
    let mut other = begun.clone();
    let mut start = other.start.take().unwrap().to_vec();
    start[begun.slots[0].a.start] *= 1.001;
    other.start = Some(start.into());
    assert!(Trainable::from(other).load_like(folder.path(), model.config()).is_err());
    let other = Lora::beside(pissa(&["q_proj"]), &model, 3).unwrap();
    let error = Trainable::from(other).load_like(folder.path(), model.config()).unwrap_err();
    insta::assert_snapshot!(common::text(&error, folder.path()));
}
