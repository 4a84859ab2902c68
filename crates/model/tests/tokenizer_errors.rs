//! What is wrong with a tokenizer is said with file, place and next step.

use std::path::{Path, PathBuf};

use collimate_model::{Error, Model, Tokenizer};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer")
}

fn write(path: &Path, bytes: &[u8]) {
    std::io::Write::write_all(&mut std::fs::File::create(path).expect("a file"), bytes).expect("written");
}

/// The error of the tokenizer in a GGUF fixture in which the bytes `old` were replaced by as many others.
fn gguf_error(fixture: &str, old: &[u8], new: &[u8]) -> Error {
    let mut bytes = std::fs::read(fixtures().join(fixture)).expect("the fixture is there");
    let at = bytes.windows(old.len()).position(|window| window == old).expect("the bytes are there");
    bytes[at..at + new.len()].copy_from_slice(new);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    write(&path, &bytes);
    Model::open(&path).expect("the rest is sound").tokenizer().map(|_| "no error").unwrap_err()
}

fn help(error: &Error) -> String {
    miette::Diagnostic::help(error).expect("a hint").to_string()
}

#[test]
fn an_unknown_way_to_cut_text_is_refused_by_name() {
    let error = gguf_error("bytes.gguf", b"smollm", b"smallm");
    assert!(
        error.to_string().ends_with("model.gguf: `tokenizer.ggml.pre` is `smallm`, which is not supported")
    );
    assert!(help(&error).ends_with("; the nearest is `smollm`"), "{}", help(&error));
}

#[test]
fn an_unknown_kind_of_tokenizer_is_refused_by_name() {
    let error = gguf_error("bytes.gguf", b"gpt2", b"bert");
    assert!(error.to_string().ends_with("`tokenizer.ggml.model` is `bert`, which is not supported"));
    assert_eq!(help(&error), "supported: gpt2, llama");
}

#[test]
fn metadata_that_is_missing_or_wrong_is_named() {
    let cases: [(&str, &[u8], &[u8], &str); 6] = [
        (
            "bytes.gguf",
            b"ggml.merges",
            b"ggml.mergez",
            "`tokenizer.ggml.merges` should be a list of texts, but is missing",
        ),
        (
            "bytes.gguf",
            b"ggml.tokens",
            b"ggml.tokenz",
            "`tokenizer.ggml.tokens` should be a list of texts, but is missing",
        ),
        (
            "pieces.gguf",
            b"ggml.scores",
            b"ggml.scorez",
            "`tokenizer.ggml.scores` should be a list of numbers, but is missing",
        ),
        (
            "bytes.gguf",
            b"eos_token_id\x04\0\0\0\x02\0",
            b"eos_token_id\x04\0\0\0\x02\x09",
            "`tokenizer.ggml.eos_token_id` should be a token id below 502, but is 2306",
        ),
        (
            "bytes.gguf",
            "\u{120} t".as_bytes(),
            b"\xc4\xa0-t",
            "should be pairs of tokens with a blank between, but is `Ġ-t`",
        ),
        (
            "bytes.gguf",
            "\u{120} t".as_bytes(),
            b"QQ t",
            "no tokenizer can be made of it: Token `QQ` out of vocabulary",
        ),
    ];
    for (fixture, old, new, expected) in cases {
        let error = gguf_error(fixture, old, new).to_string();
        assert!(error.contains(expected), "{error}\nshould hold\n{expected}");
    }
}

/// The error of a folder with this `tokenizer.json` and, if any, another file.
fn folder_error(tokenizer: Option<&str>, other: Option<(&str, &str)>) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let sound =
        std::fs::read_to_string(fixtures().join("bytes/tokenizer.json")).expect("the fixture is there");
    if tokenizer != Some("") {
        write(&folder.path().join("tokenizer.json"), tokenizer.unwrap_or(&sound).as_bytes());
    }
    if let Some((name, text)) = other {
        write(&folder.path().join(name), text.as_bytes());
    }
    let error = Tokenizer::from_folder(folder.path()).map(|_| "no error").unwrap_err();
    error.to_string().replace(&folder.path().display().to_string(), "FOLDER")
}

#[test]
fn files_that_are_missing_or_broken_are_named() {
    assert_eq!(folder_error(Some(""), None), "FOLDER holds no tokenizer: there is no tokenizer.json");
    let cases = [
        (folder_error(Some("{"), None), "FOLDER/tokenizer.json: EOF"),
        (folder_error(Some("[]"), None), "FOLDER/tokenizer.json: invalid"),
        (
            folder_error(Some(r#"{"model": {}}"#), None),
            "FOLDER/tokenizer.json: no tokenizer can be made of it",
        ),
        (
            folder_error(Some(r###"{"model": {"type": "BPE", "continuing_subword_prefix": "##"}}"###), None),
            "FOLDER/tokenizer.json: `continuing_subword_prefix` is `##`, which is not supported",
        ),
        (
            folder_error(None, Some(("tokenizer_config.json", "[1]"))),
            "FOLDER/tokenizer_config.json: invalid type",
        ),
        (
            folder_error(None, Some(("generation_config.json", r#"{"eos_token_id": "two"}"#))),
            "FOLDER/generation_config.json: `eos_token_id` should be a token id or a list of them, but is \"two\"",
        ),
        (
            folder_error(
                None,
                Some(("tokenizer_config.json", r#"{"chat_template": [{"name": "../a", "template": ""}]}"#)),
            ),
            "FOLDER/tokenizer_config.json: `chat_template` should be a text, or a list",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.starts_with(expected), "{error}\nshould begin with\n{expected}");
    }
}
