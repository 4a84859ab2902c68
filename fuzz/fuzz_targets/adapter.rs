//! Any adapter folder is refused or read, and one that was read is saved and read back as it was.
//!
//! Input: `adapter_config.json` and the header of `adapter_model.safetensors`.
#![no_main]

use std::cell::OnceCell;

use collimate_fuzz::{Folder, bounded, parts, safetensors};
use collimate_model::{DecoderConfig, Lora};
use libfuzzer_sys::fuzz_target;

/// Memory for each byte of the files, and whatever their size, as in `crates/model/tests/hostile.rs`.
const FACTOR: usize = 16;
const CONSTANT: usize = 2 << 20;

/// The model that adapters are held against.
const MODEL: &[u8] = include_bytes!("../../crates/model/tests/fixtures/tiny-llama/config.json");

struct Place {
    given: Folder,
    saved: Folder,
    decoder: DecoderConfig,
}

impl Place {
    fn new() -> Self {
        let (given, saved) = (Folder::new(), Folder::new());
        let decoder = DecoderConfig::read(&saved.put("config.json", MODEL)).expect("the model's config.json");
        Self { given, saved, decoder }
    }
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let [config, weights] = parts(input);
    let weights = safetensors(weights);
    PLACE.with(|place| {
        let Place { given, saved, decoder } = place.get_or_init(Place::new);
        given.put("adapter_config.json", config);
        given.put("adapter_model.safetensors", &weights);
        let most_memory = FACTOR * (config.len() + weights.len()) + CONSTANT;
        let Ok(lora) = bounded(most_memory, || Lora::load(given.path(), decoder)) else { return };
        lora.save(saved.path()).expect("an adapter that was read");
        let again = Lora::load(saved.path(), decoder).expect("an adapter that was saved");
        assert_eq!(lora.config.to_json().ok(), again.config.to_json().ok());
    });
});
