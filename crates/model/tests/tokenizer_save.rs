//! A saved tokenizer is the same tokenizer.

use std::path::{Path, PathBuf};

use collimate_model::{Model, TemplateOptions, Tokenizer};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer")
}

fn texts() -> Vec<String> {
    let text = std::fs::read_to_string(fixtures().join("tokens.json")).expect("the fixture is there");
    let recorded: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let texts = recorded["texts"].as_object().expect("texts");
    texts.values().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn save_and_open(tokenizer: &Tokenizer) -> (tempfile::TempDir, Tokenizer) {
    let folder = tempfile::tempdir().expect("a folder");
    tokenizer.save(&folder.path().join("new")).expect("saves");
    let again = Tokenizer::from_folder(&folder.path().join("new")).expect("opens");
    (folder, again)
}

fn assert_equal(left: &Tokenizer, right: &Tokenizer) {
    for text in texts() {
        for special in [false, true] {
            assert_eq!(
                left.encode(&text, special).unwrap(),
                right.encode(&text, special).unwrap(),
                "{text:?}"
            );
        }
    }
    assert_eq!(
        (left.bos_id(), left.eos_id(), left.pad_id(), left.vocab_size()),
        (right.bos_id(), right.eos_id(), right.pad_id(), right.vocab_size())
    );
    let messages = [json!({"role": "user", "content": "Hi"})];
    let render = |tokenizer: &Tokenizer| {
        tokenizer
            .chat_template()
            .map(|template| template.render(&messages, &TemplateOptions::default()).unwrap())
    };
    assert_eq!(render(left), render(right));
}

#[test]
fn folders_and_gguf_files_come_back_as_they_were() {
    for name in ["bytes", "words", "pieces", "bytes.gguf", "words.gguf", "pieces.gguf"] {
        let path = fixtures().join(name);
        let tokenizer = match path.is_dir() {
            true => Tokenizer::from_folder(&path).expect("opens"),
            false => Model::open(&path).expect("opens").tokenizer().expect("has a tokenizer"),
        };
        let (_folder, again) = save_and_open(&tokenizer);
        assert_equal(&tokenizer, &again);
    }
}

#[test]
fn named_templates_are_saved_as_files_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = fixtures().join("bytes");
    std::fs::copy(from.join("tokenizer.json"), folder.path().join("tokenizer.json")).expect("copied");
    let templates = json!([{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]);
    let settings = json!({"chat_template": templates, "eos_token": "<|im_end|>", "model_max_length": 8192});
    let file = std::fs::File::create(folder.path().join("tokenizer_config.json")).expect("a file");
    serde_json::to_writer(file, &settings).expect("written");
    let (saved, again) = save_and_open(&Tokenizer::from_folder(folder.path()).expect("opens"));
    let sources = again.chat_template().expect("templates").sources();
    assert_eq!(
        sources.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>(),
        ["default=d", "tool_use=t"]
    );
    let read = |name: &str| std::fs::read_to_string(saved.path().join("new").join(name)).expect("a file");
    assert_eq!(read("additional_chat_templates/tool_use.jinja"), "t");
    let settings: Value = serde_json::from_str(&read("tokenizer_config.json")).expect("JSON");
    assert_eq!(settings, json!({"eos_token": "<|im_end|>", "model_max_length": 8192}));
    let special: Value = serde_json::from_str(&read("special_tokens_map.json")).expect("JSON");
    assert_eq!(special, json!({"eos_token": "<|im_end|>"}));
}
