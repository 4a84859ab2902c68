//! What the engine refuses, and batches that ask for nothing.

use crate::parity::{batch, load, outcome, tiny};
use collimate_device::{Device, DeviceEngine, DeviceOptions};
use collimate_engine::{Batch, Dtype, Engine, Error, Quantisation};
use collimate_model::FullWeights;

fn llama() -> DeviceEngine {
    load(&tiny("llama").0, Dtype::Float32)
}

fn targets() -> Batch {
    Batch { readouts: Vec::new(), ..batch(90) }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (mut engine, lora) = (llama(), tiny("llama").1);
    let mut unknown = Batch::new();
    unknown.push_sequence(&[1, 100_000], &[true; 2]);
    assert!(matches!(engine.score(&unknown, None), Err(Error::Token { token: 100_000, .. })));
    let (other, others) = tiny("qwen2");
    assert!(matches!(engine.score(&targets(), Some(&others)), Err(Error::Adapter { .. })));
    let weights = FullWeights::read(&other).unwrap();
    assert!(matches!(engine.forward(&targets(), &weights, None), Err(Error::Weights { .. })));
    assert!(matches!(engine.refresh(&weights), Err(Error::Weights { .. })));
    let readouts = Batch { targets: Vec::new(), ..batch(90) };
    assert!(matches!(engine.score(&readouts, Some(&lora)), Err(Error::NoScore)));
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let batch = Batch { temperature, ..targets() };
        assert!(matches!(engine.score(&batch, None), Err(Error::Temperature { .. })));
    }
}

#[test]
fn passes_that_do_not_belong_together_are_errors() {
    let (mut engine, (model, lora)) = (llama(), tiny("llama"));
    let weights = FullWeights::read(&model).unwrap();
    let (batch, mut into) = (targets(), vec![0.0; lora.values.len()]);
    let gradients = vec![0.0; batch.targets.len()];
    assert!(matches!(engine.backward(&lora, &gradients, &mut into), Err(Error::NothingKept)));
    engine.forward(&batch, &weights, None).unwrap();
    assert!(matches!(engine.backward(&lora, &gradients, &mut into), Err(Error::NothingKept)));
    engine.forward(&batch, &lora, None).unwrap();
    assert!(matches!(engine.backward(&lora, &[1.0], &mut into), Err(Error::Length { got: 1, .. })));
    engine.forward(&batch, &lora, None).unwrap();
    engine.refresh(&weights).unwrap();
    assert!(matches!(engine.backward(&lora, &gradients, &mut into), Err(Error::NothingKept)));
    engine.forward(&batch, &lora, None).unwrap();
    engine.score(&batch, None).unwrap();
    assert!(matches!(engine.backward(&lora, &gradients, &mut into), Err(Error::NothingKept)));
}

#[test]
fn what_is_not_built_in_is_refused_when_it_is_asked_for() {
    let model = tiny("llama").0;
    let refused = |options| DeviceEngine::load(&model, options, |_| {}).unwrap_err();
    let quantise = Quantisation::Nf4;
    let error = refused(DeviceOptions { quantise, ..DeviceOptions::default() });
    assert!(matches!(error, Error::NotQuantised { quantise: Quantisation::Nf4 }));
    let error = refused(DeviceOptions { dtype: Dtype::Int8, ..DeviceOptions::default() });
    assert!(matches!(error, Error::NotTrainable { dtype: Dtype::Int8 }));
    for (device, built) in
        [(Device::Cuda(9999), cfg!(feature = "cuda")), (Device::Metal(9999), cfg!(feature = "metal"))]
    {
        let error = refused(DeviceOptions { device, ..DeviceOptions::default() });
        let Error::Device { reason } = error else { unreachable!("another error: {error}") };
        assert_eq!(!reason.contains("not been built"), built, "{reason}");
    }
}

#[test]
fn a_batch_may_ask_for_nothing() {
    let (mut engine, lora) = (llama(), tiny("llama").1);
    let nothing = outcome(&mut engine, &Batch::new(), &lora, None);
    assert!(nothing.scores.log_probs.is_empty() && nothing.gradient.iter().all(|&g| g == 0.0));
    let unasked = Batch { targets: Vec::new(), ..targets() };
    let unasked = outcome(&mut engine, &unasked, &lora, None);
    assert!(unasked.scores.log_probs.is_empty() && unasked.gradient.iter().all(|&g| g == 0.0));
}
