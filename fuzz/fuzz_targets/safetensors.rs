//! Any Hugging Face folder is refused or read to the end, in memory that its files pay for.
//!
//! Input: `config.json`, the index (none: one file) and the headers of up to three shards, `1.safetensors` and so on.
#![no_main]

use std::cell::OnceCell;

use collimate_fuzz::{Folder, bounded, parts, safetensors};
use collimate_model::Model;
use libfuzzer_sys::fuzz_target;

/// Memory for each byte of the files, and whatever their size, as in `crates/model/tests/hostile.rs`.
const FACTOR: usize = 16;
const CONSTANT: usize = 2 << 20;

thread_local! {
    static FOLDER: OnceCell<Folder> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let [config, index, first, second, third] = parts(input);
    let [first, second, third] = [first, second, third].map(safetensors);
    let bytes = [config, index, &first, &second, &third].map(<[u8]>::len).iter().sum::<usize>();
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(Folder::new);
        folder.put("config.json", config);
        folder.put("model.safetensors.index.json", index);
        folder.put("model.safetensors", if index.is_empty() { &first } else { b"" });
        folder.put("1.safetensors", &first);
        folder.put("2.safetensors", &second);
        folder.put("3.safetensors", &third);
        bounded(FACTOR * bytes + CONSTANT, || {
            let Ok(model) = Model::open(folder.path()) else { return };
            let mut values = Vec::new();
            for (name, _) in model.config().weights() {
                let _ = model.read(&name, &mut values);
            }
        });
    });
});
