//! `model merge` and `model export` as whole stages: what is written opens again as what was to be written.

use std::path::{Path, PathBuf};
use std::process::Command;

use collimate_model::{Lora, LoraConfig, Model, OutputHeads, Targets};
use collimate_run::Stage;
use collimate_stages::Error;
use collimate_stages::model::export::ModelExport;
use collimate_stages::model::merge::ModelMerge;
use collimate_stages::model::{Fidelity, Written};
use miette::Diagnostic;

use crate::common::{config, fixtures, run, warned};

/// A folder in which a test works.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The stage that merges the adapters of these folders into a model of the fixtures.
    fn stage(&self, model: &Path, adapters: &[&Path], more: &[&str]) -> ModelMerge {
        ModelMerge::new(config(
            &self.words(model, adapters, more).iter().map(String::as_str).collect::<Vec<_>>(),
        ))
    }

    fn words(&self, model: &Path, adapters: &[&Path], more: &[&str]) -> Vec<String> {
        let mut words = vec![format!("--model_name_or_path={}", model.display())];
        words.extend(adapters.iter().map(|folder| format!("--adapter_name_or_path={}", folder.display())));
        words.push(format!("--output_dir={}", self.path("out").display()));
        words.extend(more.iter().map(ToString::to_string));
        words
    }

    fn merge(&self, model: &Path, adapters: &[&Path], more: &[&str]) -> Written {
        run(&self.stage(model, adapters, more)).unwrap().summary
    }

    fn written(&self) -> Model {
        Model::open(&self.path("out")).unwrap()
    }
}

fn fidelity(written: &Written) -> Fidelity {
    written.fidelity.clone().unwrap()
}

fn llama() -> PathBuf {
    fixtures().join("tiny/llama")
}

fn adapter() -> PathBuf {
    fixtures().join("tiny/llama/adapter")
}

/// Like `tiny/llama`, as a GGUF file of its own, quantised.
fn quantised() -> PathBuf {
    fixtures().join("../crates/model/tests/fixtures/tiny-llama.gguf")
}

fn read(model: &Model, name: &str) -> Vec<f32> {
    let mut values = Vec::new();
    model.read(name, &mut values).unwrap();
    values
}

/// W + weight · ΔW of every weight of a model with an adapter, formed here.
fn expected(model: &Path, folder: &Path, weight: f32) -> Vec<(String, Vec<f32>)> {
    let base = Model::open(model).unwrap();
    let lora = Lora::load(folder, base.config()).unwrap();
    let changed = |name: String| {
        let mut values = read(&base, &name);
        let slot = lora.slots.iter().find(|slot| format!("{}.weight", slot.module.path(slot.layer)) == name);
        if let Some(slot) = slot {
            let (a, b) = (&lora.values[slot.a.clone()], &lora.values[slot.b.clone()]);
            for (index, value) in values.iter_mut().enumerate() {
                let (row, column) = (index / slot.inputs, index % slot.inputs);
                let product: f64 = (0..slot.rank)
                    .map(|rank| {
                        f64::from(b[row * slot.rank + rank]) * f64::from(a[rank * slot.inputs + column])
                    })
                    .sum();
                *value = (f64::from(*value) + f64::from(weight * slot.scale) * product) as f32;
            }
        }
        (name, values)
    };
    base.config().weights().into_iter().map(|(name, _)| changed(name)).collect()
}

/// Asserts that a model's weights are these within a few roundings of f32.
fn assert_near(model: &Model, expected: &[(String, Vec<f32>)]) {
    for (name, expected) in expected {
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let far =
            read(model, name).iter().zip(expected).any(|(got, value)| (got - value).abs() > 1e-6 * largest);
        assert!(!far, "{name}");
    }
}

#[test]
fn what_is_merged_is_written_to_the_bit() {
    let place = Place::new();
    let summary = place.merge(&llama(), &[&adapter()], &["--dtype=float32"]);
    assert_near(&place.written(), &expected(&llama(), &adapter(), 1.0));
    assert_eq!((summary.from.as_str(), summary.dtype.as_str()), ("bfloat16", "float32"));
    let found = fidelity(&summary);
    assert_eq!((found.rounding_rms, found.rounding_max), (0.0, 0.0));
    let change = found.change.unwrap();
    assert_eq!((change.kept, change.noise), (1.0, 0.0));
    assert!(change.size > 0.01, "{change:?}");
    // Tokenizer and template come along.
    let (before, after) = (Model::open(&llama()).unwrap(), place.written());
    let templates =
        [before, after].map(|model| model.tokenizer().unwrap().chat_template().unwrap().sources().clone());
    assert_eq!(templates[0], templates[1]);
    assert!(run(&place.stage(&llama(), &[&adapter()], &["--dtype=float32"])).unwrap().reused);
    assert!(!run(&place.stage(&llama(), &[&adapter()], &[])).unwrap().reused);
    assert!(place.path("out~1/DONE").exists());
}

#[test]
fn the_models_own_type_is_kept_and_its_rounding_told() {
    let place = Place::new();
    let (summary, warnings) = warned(&place.stage(&llama(), &[&adapter()], &[]));
    assert_eq!((summary.dtype.as_str(), warnings), ("bfloat16", Vec::new()));
    let exact = expected(&llama(), &adapter(), 1.0);
    let (written, mut error, mut square) = (place.written(), 0.0, 0.0);
    for (name, exact) in &exact {
        for (got, value) in read(&written, name).iter().zip(exact) {
            assert!((got - value).abs() <= value.abs() * 2f32.powi(-8), "{name}");
            error += f64::from(got - value).powi(2);
            square += f64::from(*value).powi(2);
        }
    }
    let rms = (error / square).sqrt();
    assert!((fidelity(&summary).rounding_rms / rms - 1.0).abs() < 1e-3, "{rms} {:?}", fidelity(&summary));
    let change = fidelity(&summary).change.unwrap();
    assert!((change.kept - 1.0).abs() < 0.02 && change.noise < 0.1, "{change:?}");
}

#[test]
fn a_change_below_the_rounding_is_missed_aloud() {
    let place = Place::new();
    let (summary, warnings) = warned(&place.stage(&llama(), &[&adapter()], &["--adapter_weights=1e-5"]));
    let change = fidelity(&summary).change.unwrap();
    assert!(change.kept < 0.2 && change.noise > 0.8, "{change:?}");
    assert!(warnings.len() == 1 && warnings[0].contains("float32 keeps all"), "{warnings:?}");
}

#[test]
fn adapters_are_added_up_by_their_weights() {
    let place = Place::new();
    let more = ["--dtype=float32", "--adapter_weights=0.75,-0.25"];
    place.merge(&llama(), &[&adapter(), &adapter()], &more);
    assert_near(&place.written(), &expected(&llama(), &adapter(), 0.5));
}

#[test]
fn a_quantised_model_is_merged_in_full() {
    let place = Place::new();
    let base = Model::open(&quantised()).unwrap();
    let asked = LoraConfig {
        target_modules: Some(Targets::Names(vec!["q_proj".to_owned(), "down_proj".to_owned()])),
        ..LoraConfig::default()
    };
    let mut lora = Lora::new(asked, base.config(), 1).unwrap();
    lora.values.iter_mut().enumerate().for_each(|(index, value)| *value += (index % 13) as f32 * 1e-3);
    lora.save(&place.path("adapter")).unwrap();
    let summary = place.merge(&quantised(), &[&place.path("adapter")], &[]);
    assert_eq!((summary.from.as_str(), summary.dtype.as_str()), ("quantised", "float32"));
    assert_eq!(fidelity(&summary).rounding_max, 0.0);
    assert_near(&place.written(), &expected(&quantised(), &place.path("adapter"), 1.0));
}

#[test]
fn a_reward_models_head_comes_along() {
    let (place, adapter) = (Place::new(), fixtures().join("reward/adapter"));
    place.merge(&llama(), &[&adapter], &["--dtype=float32"]);
    let (written, base) = (place.written(), Model::open(&llama()).unwrap());
    assert_eq!(written.config().output_heads, OutputHeads::Score);
    let lora = Lora::load(&adapter, base.config()).unwrap();
    assert_eq!(read(&written, "score.weight"), lora.values[lora.score.unwrap()]);
}

/// The stage that exports into the place's folder.
fn export(place: &Place, model: &Path, adapters: &[&Path], more: &[&str]) -> ModelExport {
    let words = place.words(model, adapters, more);
    ModelExport::new(config(&words.iter().map(String::as_str).collect::<Vec<_>>()))
}

#[test]
fn a_model_is_exported_as_it_is() {
    let place = Place::new();
    let more = ["--format=hf", "--dtype=float16", "--max_shard_size=100KB"];
    let summary = run(&export(&place, &quantised(), &[], &more)).unwrap().summary;
    let found = fidelity(&summary);
    assert_eq!((found.change, summary.file), (None, None));
    assert!(found.rounding_rms > 1e-5 && found.rounding_rms < 1e-3, "{}", found.rounding_rms);
    assert!(place.path("out/model.safetensors.index.json").exists());
    let (base, written) = (Model::open(&quantised()).unwrap(), place.written());
    for (name, _) in base.config().weights() {
        let near = |(got, value): (&f32, &f32)| (got - value).abs() <= value.abs() * 2f32.powi(-11) + 6e-8;
        assert!(read(&written, &name).iter().zip(&read(&base, &name)).all(near), "{name}");
    }
}

#[test]
fn a_merged_model_is_written_for_llama_cpp_and_ollama() {
    let place = Place::new();
    let summary = run(&export(&place, &llama(), &[&adapter()], &["--outtype=F32"])).unwrap().summary;
    assert_eq!((summary.file.as_deref(), summary.dtype.as_str()), (Some("model-F32.gguf"), "F32"));
    assert_eq!((fidelity(&summary).rounding_max, fidelity(&summary).change.unwrap().kept), (0.0, 1.0));
    let written = Model::open(&place.path("out/model-F32.gguf")).unwrap();
    assert_near(&written, &expected(&llama(), &adapter(), 1.0));
    let modelfile = std::fs::read_to_string(place.path("out/Modelfile")).unwrap();
    assert_eq!(modelfile, "FROM ./model-F32.gguf\nPARAMETER stop \"<|im_end|>\"\n");
    // Blocks of 8 bits lose about 0.5 % and keep a change of that size on the whole.
    let summary = run(&export(&place, &llama(), &[&adapter()], &["--outtype=Q8_0"])).unwrap().summary;
    let found = fidelity(&summary);
    assert!((1e-3..1e-2).contains(&found.rounding_rms), "{}", found.rounding_rms);
    assert!((found.change.unwrap().kept - 1.0).abs() < 0.05, "{:?}", found.change);
}

#[test]
fn an_adapters_chat_template_comes_along() {
    let place = Place::new();
    let [base, tuned] = ["base", "tuned"].map(|name| place.path(name));
    let copy = |from: PathBuf, to: &Path| {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(llama(), &base);
    std::fs::remove_file(base.join("chat_template.jinja")).unwrap();
    copy(adapter(), &tuned);
    Model::open(&llama()).unwrap().tokenizer().unwrap().save(&tuned).unwrap();
    // Once from a folder without one, then from the file without one that was made of it.
    run(&export(&place, &base, &[], &["--outtype=F32"])).unwrap();
    let file = place.path("base.gguf");
    std::fs::rename(place.path("out/model-F32.gguf"), &file).unwrap();
    let template = |path: &Path| {
        let tokenizer = Model::open(path).unwrap().tokenizer().unwrap();
        tokenizer.chat_template().map(|template| template.sources().clone())
    };
    assert_eq!(template(&file), None);
    for model in [&base, &file] {
        run(&export(&place, model, &[&tuned], &["--outtype=F32"])).unwrap();
        assert_eq!(template(&place.path("out/model-F32.gguf")), template(&llama()));
    }
}

#[test]
fn an_adapter_alone_is_written_for_llama_cpp() {
    let place = Place::new();
    let summary = run(&export(&place, &llama(), &[&adapter()], &["--format=gguf_lora"])).unwrap().summary;
    assert_eq!((summary.file.as_deref(), summary.fidelity), (Some("adapter-F32.gguf"), None));
    let bytes = std::fs::read(place.path("out/adapter-F32.gguf")).unwrap();
    assert!(bytes.starts_with(b"GGUF") && bytes.len() as u64 == summary.bytes);
}

#[test]
fn an_export_heeds_all_that_is_said() {
    let place = Place::new();
    let adapter = adapter();
    let cases: [(&[&Path], &[&str]); 4] = [
        (&[], &["--dtype=float16"]),
        (&[], &["--format=hf", "--outtype=Q8_0"]),
        (&[&adapter], &["--format=gguf_lora", "--adapter_weights=2", "--max_shard_size=1GB"]),
        (&[], &["--format=gguf_lora"]),
    ];
    let refusals = cases.map(|(adapters, more)| refusal(&place, &export(&place, &llama(), adapters, more)));
    insta::assert_snapshot!(refusals.join("\n\n"));
}

/// What a person reads where a merge ends.
fn refusal<S: Stage<Error = Error>>(place: &Place, stage: &S) -> String
where
    S::Summary: std::fmt::Debug,
{
    let error = run(stage).unwrap_err();
    let help = error.help().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    let folders = [(place.path(""), ""), (fixtures().join(""), "")];
    folders.iter().fold(format!("{error}{help}"), |text, (folder, name)| {
        text.replace(&folder.display().to_string(), name)
    })
}

/// An adapter of the place that has these modules whole, and changes nothing yet.
fn whole(place: &Place, name: &str, use_dora: bool, modules: &[&str]) -> PathBuf {
    let config = LoraConfig {
        target_modules: Some(Targets::Names(vec!["q_proj".to_owned()])),
        modules_to_save: Some(modules.iter().map(|module| (*module).to_owned()).collect()),
        use_dora,
        ..LoraConfig::default()
    };
    Lora::beside(config, &Model::open(&llama()).unwrap(), 1).unwrap().save(&place.path(name)).unwrap();
    place.path(name)
}

#[test]
fn adapters_with_different_modules_whole_are_merged_together() {
    let place = Place::new();
    let [embedding, head] = ["embed_tokens", "lm_head"].map(|module| whole(&place, module, false, &[module]));
    place.merge(&llama(), &[&embedding, &head], &["--dtype=float32"]);
    let (written, base) = (place.written(), Model::open(&llama()).unwrap());
    assert!(base.config().tie_word_embeddings && !written.config().tie_word_embeddings);
    assert_eq!(read(&written, "lm_head.weight"), read(&base, "model.embed_tokens.weight"));
    assert_eq!(read(&written, "model.embed_tokens.weight"), read(&base, "model.embed_tokens.weight"));
}

#[test]
fn what_cannot_be_merged_is_said_with_the_next_step() {
    let place = Place::new();
    let reward = fixtures().join("reward/adapter");
    let mut diverged = Lora::load(&adapter(), Model::open(&llama()).unwrap().config()).unwrap();
    diverged.values[0] = f32::NAN;
    diverged.save(&place.path("diverged")).unwrap();
    let whole = |name: &str, use_dora, modules: &[&str]| whole(&place, name, use_dora, modules);
    let both = whole("both", false, &["lm_head", "embed_tokens"]);
    let [embedding, head] = ["embed_tokens", "lm_head"].map(|module| whole(module, false, &[module]));
    let cases: [(&[&Path], &[&str]); 9] = [
        (&[], &[]),
        (&[&adapter()], &["--adapter_weights=1,2"]),
        (&[&adapter()], &["--adapter_weights=inf"]),
        (&[&reward, &reward], &[]),
        (&[&both, &embedding], &[]),
        (&[&both, &head], &[]),
        (&[&whole("dora", true, &[])], &["--adapter_weights=0.5"]),
        (&[&place.path("diverged")], &[]),
        (&[&adapter()], &["--adapter_weights=1e7", "--dtype=float16"]),
    ];
    let refusals = cases.map(|(adapters, more)| refusal(&place, &place.stage(&llama(), adapters, more)));
    assert!(!place.path("out/DONE").exists());
    insta::assert_snapshot!(refusals.join("\n\n"));
}

#[test]
fn transformers_and_peft_agree() {
    #[expect(clippy::disallowed_methods, reason = "only the caller knows where such a Python is")]
    let Some(python) = std::env::var_os("COLLIMATE_TEST_PYTHON") else {
        eprintln!("skipped: COLLIMATE_TEST_PYTHON names no Python with transformers and PEFT");
        return;
    };
    for name in ["llama", "qwen2", "llama_untied_llama3rope", "qwen2_untied_yarn"] {
        let (place, model) = (Place::new(), fixtures().join("tiny").join(name));
        let adapter = model.join("adapter");
        let more = ["--dtype=float32", "--adapter_weights=0.75,0.5"];
        place.merge(&model, &[&adapter, &adapter], &more);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/read_merged.py");
        let folders = [&model, &adapter, &place.path("out")];
        let said = Command::new(&python).arg(script).args(folders).args(["0.75", "0.5"]).output().unwrap();
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
    }
}
