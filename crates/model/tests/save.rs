//! A saved model is the same model, and a merged one is W + scale · B·A.

use crate::common;
use std::path::{Path, PathBuf};

use collimate_model::{FullWeights, Lora, LoraConfig, Model, SaveOptions, StoredType, Targets, Trainable};
use half::bf16;
use serde_json::{Map, Value, json};

/// Small models of every kind: folders of one file and of several, of each stored type, and GGUF files.
fn models() -> Vec<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny");
    let shared =
        ["llama", "llama_untied_llama3rope", "qwen2", "qwen2_untied_yarn"].map(|name| shared.join(name));
    let own = ["tiny-llama", "tiny-qwen2", "tiny-llama.gguf", "tiny-qwen2.gguf"].map(common::fixture);
    shared.into_iter().chain(own).collect()
}

fn weights(model: &Model) -> Vec<(String, Vec<f32>)> {
    let read = |name: String| {
        let mut values = Vec::new();
        model.read(&name, &mut values).unwrap();
        (name, values)
    };
    model.config().weights().into_iter().map(|(name, _)| read(name)).collect()
}

fn assert_same_bits(left: &Model, right: &Model) {
    for ((name, left), (_, right)) in weights(left).iter().zip(weights(right)) {
        let same = left.iter().zip(&right).all(|(left, right)| left.to_bits() == right.to_bits());
        assert!(same && left.len() == right.len(), "{name} differs");
    }
}

fn json(path: &Path) -> Map<String, Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn models_come_back_as_they_were() {
    for path in models() {
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("new/model");
        let model = Model::open(&path).unwrap();
        model.save(&saved, SaveOptions::default()).unwrap();
        let again = Model::open(&saved).unwrap();
        assert_eq!(model.config(), again.config(), "{}", path.display());
        assert_same_bits(&model, &again);
        if path.is_dir() {
            let (old, new) = (json(&path.join("config.json")), json(&saved.join("config.json")));
            assert!(old.keys().eq(new.keys()), "{}", path.display());
            assert_eq!(
                json(&path.join("generation_config.json")),
                json(&saved.join("generation_config.json"))
            );
        }
    }
}

#[test]
fn what_transformers_wrote_is_written_back_to_the_byte() {
    let path = common::fixture("../../../../fixtures/tiny/llama");
    let folder = tempfile::tempdir().unwrap();
    let options = SaveOptions { stored: StoredType::Bf16, ..SaveOptions::default() };
    Model::open(&path).unwrap().save(folder.path(), options).unwrap();
    let read = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert!(read(&path) == read(folder.path()));
    assert_eq!(json(&path.join("config.json")), json(&folder.path().join("config.json")));
}

#[test]
fn large_models_are_cut_into_shards() {
    let path = common::fixture("tiny-llama");
    let (model, folder) = (Model::open(&path).unwrap(), tempfile::tempdir().unwrap());
    let whole = ["config.json", "generation_config.json", "model.safetensors"];
    model.save(folder.path(), SaveOptions::default()).unwrap();
    assert_eq!(files(folder.path()), whole);

    let options = SaveOptions { max_shard_size: 100_000, ..SaveOptions::default() };
    model.save(folder.path(), options).unwrap();
    let index = json(&folder.path().join("model.safetensors.index.json"));
    let sizes = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
    let sizes = sizes.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "safetensors"));
    let sizes: Vec<u64> = sizes.map(|entry| entry.metadata().unwrap().len()).collect();
    // 81,728 bytes of weights a layer, 12,800 of embedding and of head.
    assert_eq!(sizes.len(), 3, "{:?}", files(folder.path()));
    assert!(sizes.iter().all(|size| *size < 104_000), "{sizes:?}");
    let recorded = json(&path.join("model.safetensors.index.json"));
    assert_eq!(index["metadata"], recorded["metadata"]);
    let names = |index: &Map<String, Value>| -> Vec<String> {
        index["weight_map"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(names(&index), names(&recorded));
    assert_same_bits(&model, &Model::open(folder.path()).unwrap());

    model.save(folder.path(), SaveOptions::default()).unwrap();
    assert!(!folder.path().join("model.safetensors.index.json").exists());
    assert_same_bits(&model, &Model::open(folder.path()).unwrap());
}

#[test]
fn bf16_is_rounded_to_the_nearest() {
    let (model, folder) =
        (Model::open(&common::fixture("tiny-llama")).unwrap(), tempfile::tempdir().unwrap());
    let options = SaveOptions { stored: StoredType::Bf16, ..SaveOptions::default() };
    model.save(folder.path(), options).unwrap();
    assert_eq!(json(&folder.path().join("config.json"))["dtype"], json!("bfloat16"));
    let again = Model::open(folder.path()).unwrap();
    let mut changed = 0;
    for ((_, exact), (name, stored)) in weights(&model).iter().zip(weights(&again)) {
        for (exact, stored) in exact.iter().zip(&stored) {
            assert_eq!(*stored, bf16::from_f32(*exact).to_f32(), "{name}");
            changed += usize::from(stored != exact);
        }
    }
    assert!(changed > 1000, "{changed}");
}

/// An adapter with random A and B on every linear layer of one of the shared models.
fn adapter(path: &Path, model: &Model) -> Lora {
    Lora::load(&path.join("adapter"), model.config()).unwrap()
}

#[test]
fn a_merged_weight_is_the_sum_in_f64() {
    for path in &models()[..4] {
        let plain = Model::open(path).unwrap();
        let first = adapter(path, &plain);
        let mut second = first.clone();
        second.values.reverse();
        let merged =
            Model::open(path).unwrap().merged(first.clone()).unwrap().merged(second.clone()).unwrap();
        let mut changed = 0;
        for ((name, before), (_, after)) in weights(&plain).iter().zip(weights(&merged)) {
            let mut exact: Vec<f64> = before.iter().map(|value| f64::from(*value)).collect();
            for lora in [&first, &second] {
                let slot = lora
                    .slots
                    .iter()
                    .find(|slot| format!("{}.weight", slot.module.path(slot.layer)) == *name);
                let Some(slot) = slot else { continue };
                changed += 1;
                for (at, sum) in exact.iter_mut().enumerate() {
                    let (output, input) = (at / slot.inputs, at % slot.inputs);
                    let product = (0..slot.rank).map(|rank| {
                        let b = lora.values[slot.b.start + output * slot.rank + rank];
                        f64::from(b) * f64::from(lora.values[slot.a.start + rank * slot.inputs + input])
                    });
                    *sum += f64::from(slot.scale) * product.sum::<f64>();
                }
            }
            let error = after
                .iter()
                .zip(&exact)
                .map(|(got, exact)| (f64::from(*got) - exact).abs())
                .fold(0.0, f64::max);
            assert!(error < 1e-6, "{}, {name}: off by {error}", path.display());
        }
        assert_eq!(changed, 2 * 7 * plain.config().num_hidden_layers);

        let folder = tempfile::tempdir().unwrap();
        merged.save(folder.path(), SaveOptions::default()).unwrap();
        assert_same_bits(&merged, &Model::open(folder.path()).unwrap());
    }
}

#[test]
fn an_adapter_for_another_model_is_not_merged() {
    let path = common::fixture("tiny-llama");
    let other = Model::open(&common::fixture("../../../../fixtures/tiny/qwen2_untied_yarn")).unwrap();
    let target_modules = Some(Targets::Names(vec!["up_proj".to_owned()]));
    let config = LoraConfig { target_modules, ..LoraConfig::default() };
    let lora = Lora::new(config, other.config(), 0).unwrap();
    let error = Model::open(&path).unwrap().merged(lora).unwrap_err();
    insta::assert_snapshot!(common::text(&error, &path), @"
    FOLDER: the tensor `model.layers.0.mlp.up_proj.weight` should have the shape [48, 32], but has [96, 64]
    help: weights and configuration belong to two models: name the model that the adapter was made for, or fetch both anew
    ");
}

#[test]
fn what_cannot_be_written_is_an_error_and_leaves_no_model() {
    let (model, folder) =
        (Model::open(&common::fixture("tiny-qwen2")).unwrap(), tempfile::tempdir().unwrap());
    common::write(&folder.path().join("file"), b"");
    let error = model.save(&folder.path().join("file/model"), SaveOptions::default()).unwrap_err();
    insta::assert_snapshot!(common::text(&error, folder.path()), @"
    cannot write file/model
    help: a part of this path is a file, not a folder: name another output
    ");

    #[cfg(target_os = "linux")]
    {
        // A device without room in the place of the weights.
        std::os::unix::fs::symlink("/dev/full", folder.path().join("model.safetensors")).unwrap();
        let error = model.save(folder.path(), SaveOptions::default()).unwrap_err();
        insta::assert_snapshot!(common::text(&error, folder.path()), @"
        cannot write model.safetensors
        help: the disk is full: free some space or name an output on another disk
        ");
        assert!(!folder.path().join("config.json").exists());
    }
}

#[test]
fn all_weights_in_one_vector_are_saved_and_loaded() {
    for path in models() {
        let (model, folder) = (Model::open(&path).unwrap(), tempfile::tempdir().unwrap());
        let mut full = FullWeights::read(&model).unwrap();
        let mut names: Vec<_> =
            full.layout.slots.iter().map(|slot| (slot.name.clone(), slot.shape.clone())).collect();
        let mut expected = model.config().weights();
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "{}", path.display());
        for (name, values) in weights(&model) {
            let slot = full.layout.slots.iter().find(|slot| slot.name == name).unwrap();
            assert!(full.values[slot.range.clone()] == values, "{name}");
        }
        full.values.iter_mut().for_each(|value| *value = value.mul_add(1.7, 1e-3));
        let trainable = Trainable::from(full);
        trainable.save(folder.path()).unwrap();
        assert!(
            trainable.load_like(folder.path(), model.config()).unwrap() == trainable,
            "{}",
            path.display()
        );
    }
}

#[test]
fn norms_and_biases_do_not_decay() {
    let model = Model::open(&common::fixture("tiny-qwen2")).unwrap();
    let full = Trainable::from(FullWeights::read(&model).unwrap());
    let undecayed: usize = full.undecayed().iter().map(std::ops::Range::len).sum();
    // Two norms and 4 + 2 + 2 heads of biases a layer, each head 16 wide, and the last norm.
    assert_eq!(undecayed, 2 * (2 * 64 + 8 * 16) + 64);
}

#[test]
fn weights_of_another_model_are_not_loaded() {
    let path = common::fixture("tiny-llama");
    let other = Model::open(&common::fixture("tiny-qwen2")).unwrap();
    let error = FullWeights::load(&path, other.config()).unwrap_err();
    insta::assert_snapshot!(common::text(&error, &path), @"
    FOLDER: its config.json describes another model than the one in training
    help: give the model that this folder was trained from
    ");
}
