//! The engine against PyTorch on tiny random models (`fixtures/tiny`), and against itself.

use crate::support::{TINY, Tiny, engine, largest_difference, log_probs};
use collimate_engine::{Batch, Dropout, Dtype, Engine, Error};
use collimate_model::Model;
use safetensors::SafeTensors;

#[test]
fn log_probs_equal_pytorchs() {
    for name in TINY {
        let mut tiny = Tiny::open(name);
        for sequence in &tiny.expected.sequences {
            let base = log_probs(&mut tiny.engine, &sequence.ids, None);
            let tuned = log_probs(&mut tiny.engine, &sequence.ids, Some(&tiny.lora));
            let errors = [
                largest_difference(&base, &sequence.log_probs_f64),
                largest_difference(&tuned, &sequence.adapter_log_probs_f64),
            ];
            // PyTorch's own f32 is within 2e-5 of its f64 on these.
            assert!(errors.iter().all(|&e| e < 5e-5), "{name}: {errors:?}");
        }
    }
}

#[test]
fn gradients_of_every_matrix_equal_pytorchs() {
    for name in TINY {
        let mut tiny = Tiny::open(name);
        let batch = tiny.batch();
        let (loss, gradient) = tiny.gradient(&batch, None);
        assert!((loss - tiny.expected.loss).abs() < 2e-5, "{name}: loss {loss}, not {}", tiny.expected.loss);
        let recorded = std::fs::read(tiny.folder.join("expected.safetensors")).unwrap();
        let recorded = SafeTensors::deserialize(&recorded).unwrap();
        for slot in &tiny.lora.slots {
            for (matrix, range) in [("A", &slot.a), ("B", &slot.b)] {
                let key = format!("gradient.{}.{}.lora_{matrix}", slot.layer, slot.module.name());
                let expected: Vec<f64> = recorded
                    .tensor(&key)
                    .unwrap()
                    .data()
                    .chunks_exact(4)
                    .map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())))
                    .collect();
                let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
                let error = gradient[range.clone()]
                    .iter()
                    .zip(&expected)
                    .map(|(&a, b)| (f64::from(a) - b).powi(2))
                    .sum::<f64>()
                    .sqrt();
                assert!(error < 1e-4 * norm, "{name} {key}: off by {error:e} of {norm:e}");
            }
        }
    }
}

#[test]
fn neither_threads_nor_neighbours_change_a_bit() {
    for name in TINY {
        let mut tiny = Tiny::open(name);
        let batch = tiny.batch();
        let (_, gradient) = tiny.gradient(&batch, Some(Dropout { probability: 0.1, seed: 3 }));
        let packed = tiny.engine.score(&batch, Some(&tiny.lora)).unwrap().log_probs.clone();
        let mut alone: Vec<f32> = Vec::new();
        for sequence in &tiny.expected.sequences {
            let mut batch = Batch::new();
            batch.push_sequence(&sequence.ids, &sequence.trained);
            alone.extend(tiny.engine.score(&batch, Some(&tiny.lora)).unwrap().log_probs.iter());
        }
        assert_eq!(packed, alone, "{name}");
        tiny.engine = engine(&Model::open(&tiny.folder).unwrap(), 1, Dtype::Float32);
        let (_, single) = tiny.gradient(&batch, Some(Dropout { probability: 0.1, seed: 3 }));
        assert_eq!(gradient, single, "{name}");
    }
}

#[test]
fn the_gradient_with_dropout_is_that_of_the_loss_with_dropout() {
    let mut tiny = Tiny::open("qwen2");
    let batch = tiny.batch();
    let dropout = Some(Dropout { probability: 0.3, seed: 11 });
    let (with, gradient) = tiny.gradient(&batch, dropout);
    let without = tiny.gradient(&batch, None).0;
    assert_ne!(with, without);
    // Along the gradient the loss must rise by its square, to first order.
    let square: f64 = gradient.iter().map(|&g| f64::from(g).powi(2)).sum();
    let step = 1e-4 / square.sqrt();
    let start = tiny.lora.values.clone();
    let mut at = |sign: f64| {
        for ((value, start), g) in tiny.lora.values.iter_mut().zip(&start).zip(&gradient) {
            *value = (f64::from(*start) + sign * step * f64::from(*g)) as f32;
        }
        tiny.gradient(&batch, dropout).0
    };
    let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
    assert!((slope / square - 1.0).abs() < 1e-2, "slope {slope}, squared gradient {square}");
}

#[test]
fn layers_below_the_lowest_trained_one_are_not_needed() {
    let mut tiny = Tiny::open("llama");
    let batch = tiny.batch();
    let (_, whole) = tiny.gradient(&batch, None);
    // The same adapter with all but the last layer's MLP taken out of training has the same gradient there.
    let kept: Vec<_> =
        tiny.lora.slots.iter().filter(|s| s.layer == 1 && s.module.name() == "up_proj").cloned().collect();
    let mut zeroed = tiny.lora.clone();
    for slot in &tiny.lora.slots {
        if !kept.contains(slot) {
            zeroed.values[slot.b.clone()].fill(0.0);
        }
    }
    tiny.lora = zeroed;
    let (_, all) = tiny.gradient(&batch, None);
    assert_ne!(whole, all);
    tiny.lora.slots = kept.clone();
    let (_, one) = tiny.gradient(&batch, None);
    assert_eq!(one[kept[0].a.clone()], all[kept[0].a.clone()]);
    assert_eq!(one[kept[0].b.clone()], all[kept[0].b.clone()]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut tiny = Tiny::open("llama");
    let mut batch = Batch::new();
    batch.push_sequence(&[1, 100_000], &[true; 2]);
    assert!(matches!(tiny.engine.score(&batch, None), Err(Error::Token { token: 100_000, .. })));
    let other = Tiny::open("qwen2").lora;
    let batch = tiny.batch();
    assert!(matches!(tiny.engine.score(&batch, Some(&other)), Err(Error::Adapter { .. })));
    let mut into = vec![0.0; tiny.lora.values.len()];
    assert!(matches!(tiny.engine.backward(&tiny.lora, &[], &mut into), Err(Error::NothingKept)));
}
