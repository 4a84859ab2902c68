//! Any tokenizer folder is refused or works on any text: it neither panics nor takes long.
//!
//! Input: `tokenizer.json`, `tokenizer_config.json`, and a text.
#![no_main]

use std::cell::OnceCell;

use collimate_fuzz::{Folder, bounded, parts};
use collimate_model::Tokenizer;
use libfuzzer_sys::fuzz_target;

/// Memory for each byte of the files, and whatever their size: the automata of regular expressions.
const FACTOR: usize = 64;
const CONSTANT: usize = 64 << 20;

/// Longest text that is encoded, in bytes.
const LONGEST_TEXT: usize = 1 << 10;

thread_local! {
    static FOLDER: OnceCell<Folder> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let [tokenizer, settings, text] = parts(input);
    let text = String::from_utf8_lossy(&text[..text.len().min(LONGEST_TEXT)]);
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(Folder::new);
        folder.put("tokenizer.json", tokenizer);
        folder.put("tokenizer_config.json", settings);
        bounded(FACTOR * (tokenizer.len() + settings.len()) + CONSTANT, || {
            let Ok(tokenizer) = Tokenizer::from_folder(folder.path()) else { return };
            for special in [false, true] {
                let Ok(ids) = tokenizer.encode(&text, special) else { return };
                let _ = tokenizer.decode(&ids, special);
                ids.iter().for_each(|id| drop(tokenizer.token_bytes(*id)));
            }
            let _ = tokenizer.first_tokens(&text, 3);
        });
    });
});
