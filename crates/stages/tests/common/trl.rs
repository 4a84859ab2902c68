//! What the comparisons with TRL share: the models, the adapter to start from, and the one to arrive at.

use std::path::PathBuf;

use collimate_model::{Lora, LoraConfig, LoraSlot, Model, Targets};
use serde::Deserialize;

/// Some values of one matrix of the adapter.
#[derive(Deserialize)]
pub struct RecordedMatrix {
    layer: usize,
    module: String,
    matrix: String,
    samples: Vec<(usize, f64)>,
}

/// The adapter of the formula in `fixtures/README.md`, with B zero.
pub fn formula(model: &Model) -> Lora {
    let target_modules = Some(Targets::Names(vec!["q_proj".to_owned(), "v_proj".to_owned()]));
    let config = LoraConfig { r: 8, lora_alpha: 16.0, target_modules, ..LoraConfig::default() };
    let mut lora = Lora::new(config, model.config(), 0).unwrap();
    for slot in lora.slots.clone() {
        let phase = slot.layer as f64 + slot.module as usize as f64 / 2.0;
        for (i, value) in lora.values[slot.a].iter_mut().enumerate() {
            *value = (0.04 * (0.37 * (i as f64).powi(2) + phase).sin()) as f32;
        }
    }
    lora
}

/// The folder of the real models, or `None` with a visible word.
pub fn models() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "only the caller knows where large models lie")]
    let folder = std::env::var_os("COLLIMATE_TEST_MODELS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: COLLIMATE_TEST_MODELS does not name a folder of real models");
    }
    folder
}

/// Each sampled parameter is where TRL's went, within the tolerance.
pub fn check_adapter(lora: &Lora, matrices: &[RecordedMatrix], tolerance: f64) {
    for recorded in matrices {
        let place = |slot: &&LoraSlot| slot.layer == recorded.layer && slot.module.name() == recorded.module;
        let slot = lora.slots.iter().find(place).unwrap();
        let range = if recorded.matrix == "A" { slot.a.clone() } else { slot.b.clone() };
        for &(index, expected) in &recorded.samples {
            let gap = (f64::from(lora.values[range.clone()][index]) - expected).abs();
            assert!(
                gap < tolerance,
                "layer {} {} {}[{index}]: {gap}",
                recorded.layer,
                recorded.module,
                recorded.matrix
            );
        }
    }
}
