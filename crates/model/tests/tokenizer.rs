//! Tokenizers give the ids that transformers gives: small ones made for the tests, and real ones where
//! `COLLIMATE_TEST_MODELS` names a folder with `smol`, `smol.gguf`, `qwen` and `qwen.gguf`.
//! Recorded by `fixtures/tokenizer/record.py`.

use std::path::{Path, PathBuf};

use collimate_model::{Model, TemplateOptions, Tokenizer};
use serde_json::{Map, Value};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer")
}

fn read_json(name: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join(name)).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

/// The folder of real models, or nothing and a visible line.
fn real_models(test: &str) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "tests find real models by this variable")]
    let folder = std::env::var_os("COLLIMATE_TEST_MODELS");
    if folder.is_none() {
        eprintln!("skipped: {test}: COLLIMATE_TEST_MODELS names no folder of models");
    }
    folder.map(PathBuf::from)
}

fn open(path: &Path) -> Tokenizer {
    if path.is_dir() {
        return Tokenizer::from_folder(path).expect("the folder opens");
    }
    Model::open(path).expect("the file opens").tokenizer().expect("it has a tokenizer")
}

fn object<'a>(value: &'a Value, name: &str) -> &'a Map<String, Value> {
    value[name].as_object().expect("an object")
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

/// Compares ids with and without special tokens, decoded texts and named ids.
fn assert_same(tokenizer: &Tokenizer, recorded: &Value, texts: &Map<String, Value>) {
    let mut wrong = Vec::new();
    let mut compare = |what: String, same: bool| {
        if !same {
            wrong.push(what)
        }
    };
    for (label, text) in texts {
        let text = text.as_str().expect("a text");
        let plain = ids(&recorded["plain"][label]);
        let special = recorded["special"].get(label).map_or_else(|| plain.clone(), ids);
        let decoded = recorded["decoded"].get(label).and_then(Value::as_str).unwrap_or(text);
        let found = tokenizer.encode(text, false).expect("encodes");
        compare(format!("{label}: {found:?} should be {plain:?}"), found == plain);
        let found = tokenizer.encode(text, true).expect("encodes");
        compare(format!("{label} with special tokens: {found:?}"), found == special);
        let found = tokenizer.decode(&plain, true).expect("decodes");
        compare(format!("{label} decoded: {found:?} should be {decoded:?}"), found == decoded);
    }
    let named = [
        ("bos_token_id", tokenizer.bos_id()),
        ("eos_token_id", tokenizer.eos_id()),
        ("pad_token_id", tokenizer.pad_id()),
    ];
    for (name, id) in named {
        compare(format!("{name}: {id:?}"), id.map(u64::from) == recorded[name].as_u64());
    }
    compare("size".to_owned(), recorded["size"].as_u64() == Some(tokenizer.vocab_size() as u64));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn compare_with_recorded(name: &str) {
    let recorded = read_json("tokens.json");
    assert_same(&open(&fixtures().join(name)), &recorded["tokenizers"][name], object(&recorded, "texts"));
}

#[test]
fn a_byte_level_folder_gives_the_ids_of_transformers() {
    compare_with_recorded("bytes");
    compare_with_recorded("words");
}

#[test]
fn a_byte_level_gguf_gives_the_ids_of_transformers() {
    compare_with_recorded("bytes.gguf");
    compare_with_recorded("words.gguf");
}

#[test]
fn a_sentence_piece_folder_gives_the_ids_of_transformers() {
    compare_with_recorded("pieces");
}

#[test]
fn a_sentence_piece_gguf_gives_the_ids_of_transformers() {
    compare_with_recorded("pieces.gguf");
}

#[test]
fn real_models_give_the_ids_and_texts_of_transformers() {
    let Some(models) = real_models("real_models_give_the_ids_and_texts_of_transformers") else { return };
    let recorded = read_json("real.json");
    let conversation = recorded["conversation"].as_array().expect("messages");
    for (name, expected) in object(&recorded, "tokenizers") {
        let tokenizer = open(&models.join(name));
        assert_same(&tokenizer, expected, object(&recorded, "texts"));
        let template = tokenizer.chat_template().expect("a template");
        let prompt = TemplateOptions { add_generation_prompt: true, ..Default::default() };
        let tool = TemplateOptions { tools: Some(vec![recorded["tool"].clone()]), ..Default::default() };
        let cases = [
            ("plain", conversation.as_slice(), TemplateOptions::default()),
            ("prompt", conversation, prompt),
            ("first", &conversation[1..], TemplateOptions::default()),
            ("tool", conversation, tool),
        ];
        for (case, messages, options) in cases {
            let rendered = template.render(messages, &options).expect("renders");
            assert_eq!(Some(rendered.as_str()), expected["rendered"][case].as_str(), "{name}, {case}");
        }
    }
}

#[test]
fn the_bytes_of_tokens_make_up_their_text() {
    let recorded = read_json("tokens.json");
    for name in ["bytes", "words", "pieces", "bytes.gguf", "words.gguf", "pieces.gguf"] {
        let tokenizer = open(&fixtures().join(name));
        for (label, text) in object(&recorded, "texts") {
            let ids = tokenizer.encode(text.as_str().expect("a text"), false).expect("encodes");
            let bytes = |&id: &u32| tokenizer.token_bytes(id).expect("known");
            let spelled = String::from_utf8(ids.iter().flat_map(bytes).collect()).expect("whole characters");
            let decoded = tokenizer.decode(&ids, false).expect("decodes");
            // SentencePiece puts a space in front of a text, which decoding takes away again.
            let text = if name.starts_with("pieces") { spelled.strip_prefix(' ') } else { None };
            assert_eq!(text.unwrap_or(&spelled), decoded, "{name}: {label}");
        }
        assert_eq!(tokenizer.token_bytes(tokenizer.vocab_size() as u32), None);
    }
}

#[test]
fn tokens_without_text_and_byte_tokens_are_told_apart() {
    let (bytes, pieces) = (open(&fixtures().join("bytes")), open(&fixtures().join("pieces")));
    let id = |tokenizer: &Tokenizer, token: &str| tokenizer.id(token).expect("known");
    assert!(bytes.is_skipped(id(&bytes, "<|im_end|>")) && bytes.is_skipped(9_999));
    assert!(!bytes.is_skipped(id(&bytes, "<tool_call>")) && !bytes.is_skipped(id(&bytes, "a")));
    assert!(pieces.is_byte(id(&pieces, "<0xE4>")) && !pieces.is_byte(id(&pieces, "a")));
    assert_eq!(pieces.token_bytes(id(&pieces, "<0xE4>")), Some(vec![0xe4]));
}

#[test]
fn texts_are_encoded_alike_one_by_one_in_batches_and_in_threads() {
    let recorded = read_json("tokens.json");
    let tokenizer = open(&fixtures().join("words"));
    let texts: Vec<&str> = object(&recorded, "texts").values().filter_map(Value::as_str).collect();
    let single: Vec<Vec<u32>> =
        texts.iter().map(|text| tokenizer.encode(text, true).expect("encodes")).collect();
    assert_eq!(tokenizer.encode_batch(&texts, true).expect("encodes"), single);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (text, expected) in texts.iter().zip(&single) {
                    assert_eq!(&tokenizer.encode(text, true).expect("encodes"), expected);
                }
            });
        }
    });
}

#[test]
fn ids_that_end_a_text_come_from_the_generation_settings_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = fixtures().join("bytes");
    let copy = |name: &str| std::fs::copy(from.join(name), folder.path().join(name)).expect("copied");
    copy("tokenizer.json");
    copy("tokenizer_config.json");
    assert_eq!(open(folder.path()).eos_ids(), [2]);
    copy("config.json");
    assert_eq!(open(folder.path()).eos_ids(), [0]);
    copy("generation_config.json");
    assert_eq!(open(folder.path()).eos_ids(), [2, 0]);
}

#[test]
fn tokens_have_names_and_ids() {
    let tokenizer = open(&fixtures().join("bytes"));
    assert_eq!(tokenizer.special_token("eos_token"), Some("<|im_end|>"));
    assert_eq!(tokenizer.id("<|im_end|>"), Some(2));
    assert_eq!(tokenizer.token(2).as_deref(), Some("<|im_end|>"));
    assert_eq!((tokenizer.id("no such token"), tokenizer.token(1 << 30)), (None, None));
    assert_eq!(tokenizer.decode(&[1 << 30], false).expect("decodes"), "");
}

#[test]
fn the_first_tokens_cover_whole_characters_of_the_text() {
    let tokenizer = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama"));
    let text = "Größer. 回答1更好。 It's   clear,\nfor 12 reasons 🙂.";
    let ids = tokenizer.encode(text, false).expect("it encodes");
    let mut shared = 0;
    for count in 0..ids.len() {
        let found = tokenizer.first_tokens(text, count).expect("it encodes").expect("there are more");
        let decoded = tokenizer.decode(&ids[..count], false).expect("it decodes");
        // What is left of a character that the tokens cover in part.
        shared += usize::from(decoded.ends_with('\u{fffd}'));
        assert_eq!(found, decoded.trim_end_matches('\u{fffd}'), "{count} tokens");
    }
    assert!(shared > 0, "a character of several tokens is among them");
    for count in [ids.len(), ids.len() + 1, text.len()] {
        assert_eq!(tokenizer.first_tokens(text, count).expect("it encodes"), None);
    }
}

#[test]
fn a_text_of_too_many_tokens_is_cut_wherever_they_end() {
    let text = "🙂é回".repeat(60);
    for name in ["llama", "qwen2"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny").join(name);
        let tokenizer = open(&folder);
        let ids = tokenizer.encode(&text, false).expect("it encodes");
        assert!(ids.len() > 400, "{name}: {}", ids.len());
        let mut within = 0;
        for count in 0..ids.len() {
            let found = tokenizer.first_tokens(&text, count).expect("it encodes").expect("there are more");
            let decoded = tokenizer.decode(&ids[..count], false).expect("it decodes");
            within += usize::from(decoded.ends_with('\u{fffd}'));
            assert!(text.starts_with(found) && found.len() <= decoded.len(), "{name}, {count} tokens");
        }
        assert!(within > 0, "{name}: some tokens end within a character");
    }
}
