//! Quantised layers: the bits of the dequantised model in log-probs, gradients and decoding, in little memory, and clear
//! words where they cannot be.

use crate::support::{Tiny, append, fixtures, log_probs};
use collimate_engine::{CpuEngine, CpuOptions, Dtype, Engine, Error, MemoryPlan, Quantisation};
use collimate_kernels::quant::{FourBit, Nibbles, RowBytes};
use collimate_model::{FullWeights, Lora, LoraConfig, Model, Targets};
use std::collections::BTreeMap;

fn load(model: &Model, options: CpuOptions) -> CpuEngine {
    CpuEngine::load(model, CpuOptions { training: true, ..options }, |_| {}).unwrap()
}

/// What a matrix with rows of `inputs` weights is after it was quantised.
fn rounded(options: CpuOptions, weights: &[f32], inputs: usize) -> Vec<f32> {
    let kind = match options.quantise {
        Quantisation::Int8 => return RowBytes::quantise(weights, inputs).dequantise(inputs),
        Quantisation::Fp4 => FourBit::Fp4,
        _ => FourBit::Nf4,
    };
    let nibbles = Nibbles::quantise(kind, weights);
    let nibbles = if options.double_quant { nibbles.nested() } else { nibbles };
    let mut out = vec![0.0; weights.len()];
    nibbles.dequantise(&mut out);
    out
}

/// The model with the matrices of its layers as they are after they were quantised, in a folder.
fn dequantised(model: &Model, options: CpuOptions) -> tempfile::TempDir {
    let mut weights = FullWeights::read(model).unwrap();
    for slot in &weights.layout.slots {
        if slot.name.ends_with("_proj.weight") {
            let inputs = *slot.shape.last().unwrap();
            let values = &mut weights.values[slot.range.clone()];
            let rounded = rounded(options, values, inputs);
            values.copy_from_slice(&rounded);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    weights.save(folder.path()).unwrap();
    folder
}

/// How layers of a folder are quantised.
fn ways() -> Vec<CpuOptions> {
    let kinds = [Quantisation::Nf4, Quantisation::Fp4, Quantisation::Int8];
    let with =
        |quantise, double_quant, dtype| CpuOptions { quantise, double_quant, dtype, ..CpuOptions::default() };
    kinds
        .into_iter()
        .flat_map(|kind| {
            [(true, Dtype::Float32), (false, Dtype::Bfloat16)]
                .map(|(double, dtype)| with(kind, double, dtype))
        })
        .collect()
}

#[test]
fn losses_and_gradients_are_those_of_the_dequantised_model_to_the_bit() {
    for name in ["llama", "qwen2_untied_yarn"] {
        for options in ways() {
            let mut tiny = Tiny::open(name);
            let model = Model::open(&tiny.folder).unwrap();
            let folder = dequantised(&model, options);
            let plain = CpuOptions { dtype: options.dtype, ..CpuOptions::default() };
            tiny.engine = load(&Model::open(folder.path()).unwrap(), plain);
            let batch = tiny.batch();
            let expected = tiny.gradient(&batch, None);
            for threads in [1, 2] {
                tiny.engine = load(&model, CpuOptions { threads: Some(threads), ..options });
                assert!(tiny.gradient(&batch, None) == expected, "{name}, {options:?}");
            }
        }
    }
}

#[test]
fn the_blocks_of_a_file_give_its_own_losses_and_gradients_to_the_bit() {
    let model = Model::open(&fixtures().join("../crates/model/tests/fixtures/tiny-llama.gguf")).unwrap();
    let target_modules = Some(Targets::Pattern("all-linear".to_owned()));
    let config = LoraConfig { target_modules, ..LoraConfig::default() };
    let lora = Lora::new(config, model.config(), 1).unwrap();
    let mut batch = collimate_engine::Batch::new();
    let ids: Vec<u32> = (0..90).map(|i| i * 31 % model.config().vocab_size as u32).collect();
    batch.push_sequence(&ids, &vec![true; ids.len()]);
    for dtype in Dtype::TRAINABLE {
        let [plain, blocks] = [Quantisation::None, Quantisation::Gguf].map(|quantise| {
            let mut engine = load(&model, CpuOptions { quantise, dtype, ..CpuOptions::default() });
            let log_probs = engine.forward(&batch, &lora, None).unwrap().log_probs.clone();
            let mut gradient = vec![0.0; lora.values.len()];
            engine.backward(&lora, &vec![1.0; log_probs.len()], &mut gradient).unwrap();
            (log_probs, gradient, engine.layer_weights())
        });
        assert!(plain.0 == blocks.0 && plain.1 == blocks.1, "{dtype}");
        assert!(blocks.2.0 < plain.2.0 && blocks.2.1 == plain.2.1, "{:?}", blocks.2);
    }
}

#[test]
fn what_is_stored_quantised_is_taken_as_it_is() {
    for (name, quantise) in
        [("nf4", Quantisation::Nf4), ("fp4", Quantisation::Fp4), ("int8", Quantisation::Int8)]
    {
        let folder = fixtures().join("../crates/model/tests/fixtures/quantised").join(name);
        let model = Model::open(&folder).unwrap();
        let [plain, stored] = [Quantisation::None, quantise].map(|quantise| {
            let mut engine = load(&model, CpuOptions { quantise, ..CpuOptions::default() });
            log_probs(&mut engine, &[1, 5, 9, 30, 22, 7], None)
        });
        assert_eq!(plain, stored, "{name}");
    }
}

#[test]
fn what_is_stored_quantised_is_planned_as_it_is_held() {
    let folder = fixtures().join("../crates/model/tests/fixtures");
    for (name, quantise) in [
        ("quantised/nf4", Quantisation::Nf4),
        ("quantised/fp4", Quantisation::Fp4),
        ("quantised/int8", Quantisation::Int8),
        // Of another kind than it is stored in.
        ("quantised/int8", Quantisation::Nf4),
        ("tiny-llama.gguf", Quantisation::Gguf),
    ] {
        let model = Model::open(&folder.join(name)).unwrap();
        let target_modules = Some(Targets::Pattern("all-linear".to_owned()));
        let config = LoraConfig { target_modules, ..LoraConfig::default() };
        let planned = Lora::planned(config.clone(), model.config()).unwrap();
        let lora = Lora::new(config, model.config(), 1).unwrap();
        let options = CpuOptions { training: true, threads: Some(2), quantise, ..CpuOptions::default() };
        let plan = MemoryPlan::of(&model, options, [90, 90], (&planned).into());
        assert_eq!(plan, load(&model, options).plan(90, 90, &lora), "{name} as {quantise}");
    }
}

#[test]
fn decoding_with_an_adapter_gives_the_bits_of_a_whole_pass() {
    for options in ways() {
        let tiny = Tiny::open("llama");
        let mut engine = load(&Model::open(&tiny.folder).unwrap(), options);
        let ids = &tiny.expected.sequences[0].ids;
        let mut decoder = engine.decoder([&tiny.lora], 1 << 24).unwrap();
        let [mut sequence, mut alone] = [decoder.begin(Some(0), ids), decoder.begin(Some(0), ids)];
        let mut logits = Vec::new();
        for token in ids {
            logits = append(&mut decoder, &mut sequence, &[*token]);
        }
        assert_eq!(logits, append(&mut decoder, &mut alone, ids), "{options:?}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let model = Model::open(&fixtures().join("tiny/llama")).unwrap();
    let refused = |options| CpuEngine::load(&model, options, |_| {}).unwrap_err();
    let (dtype, quantise) = (Dtype::Int8, Quantisation::Nf4);
    let error = refused(CpuOptions { dtype, quantise, ..CpuOptions::default() });
    assert!(matches!(error, Error::TwiceQuantised { dtype: Dtype::Int8, quantise: Quantisation::Nf4 }));
    let error = refused(CpuOptions { quantise: Quantisation::Gguf, ..CpuOptions::default() });
    assert!(matches!(error, Error::NoBlocks { .. }));
    let mut engine = load(&model, CpuOptions { quantise, ..CpuOptions::default() });
    let weights = FullWeights::read(&model).unwrap();
    assert!(matches!(engine.refresh(&weights), Err(Error::QuantisedWhole { .. })));
    assert!(log_probs(&mut engine, &[1, 2, 3], None).iter().all(|x| x.is_finite()));
}

#[test]
fn magnitudes_stretch_as_beside_the_dequantised_model() {
    for options in ways() {
        let mut tiny = Tiny::open("llama");
        let model = Model::open(&tiny.folder).unwrap();
        let target_modules = Some(Targets::Pattern("all-linear".to_owned()));
        let config = LoraConfig { target_modules, use_dora: true, ..LoraConfig::default() };
        tiny.lora = Lora::beside(config, &model, 1).unwrap();
        for slot in &tiny.lora.slots {
            let b = &mut tiny.lora.values[slot.b.clone()];
            b.iter_mut().enumerate().for_each(|(i, value)| *value = 0.01 * (i % 7) as f32);
        }
        let folder = dequantised(&model, options);
        let plain = CpuOptions { dtype: options.dtype, ..CpuOptions::default() };
        let batch = tiny.batch();
        tiny.engine = load(&Model::open(folder.path()).unwrap(), plain);
        let expected = tiny.gradient(&batch, None);
        tiny.engine = load(&model, options);
        assert!(tiny.gradient(&batch, None) == expected, "{options:?}");
    }
}

/// A fresh adapter with DoRA on the modules, begun beside the engine's weights.
fn fresh(model: &Model, engine: &CpuEngine, modules: &[&str]) -> Lora {
    let target_modules = Some(Targets::Names(modules.iter().map(ToString::to_string).collect()));
    let config = LoraConfig { target_modules, use_dora: true, ..LoraConfig::default() };
    let mut lora = Lora::beside(config, model, 1).unwrap();
    engine.begin_magnitudes(&mut lora).unwrap();
    lora
}

#[test]
fn magnitudes_begin_as_beside_the_dequantised_model() {
    for options in ways() {
        let model = Model::open(&fixtures().join("tiny/llama")).unwrap();
        let mut engine = load(&model, options);
        let modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        let lora = fresh(&model, &engine, &modules);
        let plain = CpuOptions { dtype: options.dtype, ..CpuOptions::default() };
        let folder = dequantised(&model, options);
        let model = Model::open(folder.path()).unwrap();
        assert!(fresh(&model, &load(&model, plain), &modules) == lora, "{options:?}");
        if options.dtype == Dtype::Float32 {
            // Of numbers held as they are read, nothing changes.
            assert!(Lora::beside(lora.config.clone(), &model, 1).unwrap() == lora, "{options:?}");
        }
        let ids: Vec<u32> = (1..30).collect();
        let [with, without] = [Some(&lora), None].map(|lora| log_probs(&mut engine, &ids, lora));
        assert_eq!(with, without, "{options:?}");
    }
}

#[test]
fn magnitudes_begin_as_with_peft_on_bitsandbytes() {
    let recorded = std::fs::read(fixtures().join("quantised_dora.json")).unwrap();
    let recorded: BTreeMap<String, BTreeMap<String, Vec<f32>>> = serde_json::from_slice(&recorded).unwrap();
    let model = Model::open(&fixtures().join("tiny/llama")).unwrap();
    for (way, modules) in recorded {
        let quantise = way.parse().unwrap();
        let engine = load(&model, CpuOptions { quantise, ..CpuOptions::default() });
        let lora = fresh(&model, &engine, &["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"]);
        let plain = Lora::beside(lora.config.clone(), &model, 1).unwrap();
        assert_eq!(modules.len(), lora.slots.len());
        for slot in &lora.slots {
            let path = slot.module.path(slot.layer);
            let expected = &modules[path.strip_prefix("model.").unwrap()];
            let range = slot.magnitude.clone().unwrap();
            let largest = |ours: &[f32]| {
                let apart = ours.iter().zip(expected).map(|(ours, theirs)| (ours - theirs).abs() / theirs);
                apart.fold(0.0, f32::max)
            };
            assert_eq!(expected.len(), range.len());
            let ours = largest(&lora.values[range.clone()]);
            assert!(ours < 1e-6, "{way} {path}: {ours}");
            assert!(largest(&plain.values[range]) > 1e-4, "{way} {path}: what is compared cannot differ");
        }
    }
}
