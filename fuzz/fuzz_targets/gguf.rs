//! Any GGUF file is refused or read to the end, with tokenizer and template, in little memory.
//!
//! Input: how many KiB of zeros stand behind the file in place of its weights (one byte), and the file.
#![no_main]

use std::cell::OnceCell;

use collimate_fuzz::{Folder, bounded};
use collimate_model::Model;
use libfuzzer_sys::fuzz_target;

/// Memory for each byte of the file, and whatever its size: those of `crates/model/tests/hostile.rs`, and tokenizers.
const FACTOR: usize = 64;
const CONSTANT: usize = 16 << 20;

thread_local! {
    static FOLDER: OnceCell<Folder> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let Some((kibibytes, file)) = input.split_first() else { return };
    let content = [file, &vec![0; usize::from(*kibibytes) << 10]].concat();
    FOLDER.with(|folder| {
        let path = folder.get_or_init(Folder::new).put("model.gguf", &content);
        bounded(FACTOR * content.len() + CONSTANT, || {
            let Ok(model) = Model::open(&path) else { return };
            let mut values = Vec::new();
            for (name, _) in model.config().weights() {
                let _ = model.read(&name, &mut values);
                let _ = model.blocks(&name);
            }
            let Ok(tokenizer) = model.tokenizer() else { return };
            if let Ok(ids) = tokenizer.encode("Two words, 質問 12", true) {
                let _ = tokenizer.decode(&ids, false);
                ids.iter().for_each(|id| drop(tokenizer.token_bytes(*id)));
            }
        });
    });
});
