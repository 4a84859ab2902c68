//! A tokenizer from a Hugging Face folder.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::NormalizerWrapper;
use tokenizers::normalizers::unicode::NFC;

use super::settings::Settings;
use super::{Tokenizer, unusable};
use crate::error::{Error, Result};
use crate::file;
use crate::template::{self, ChatTemplate};

pub(super) fn read(folder: &Path) -> Result<Tokenizer> {
    let mut settings = Settings(read_settings(folder)?);
    let templates = read_templates(folder, settings.0.remove("chat_template"))?;
    let mut inner = read_tokenizer(&folder.join("tokenizer.json"))?;
    complete(&mut inner, &settings).map_err(unusable(folder.join("tokenizer_config.json")))?;
    let chat_template =
        (!templates.is_empty()).then(|| ChatTemplate::named(templates, settings.special_tokens()));
    let mut tokenizer = Tokenizer { inner, settings, eos_ids: Vec::new(), chat_template };
    tokenizer.eos_ids = match read_eos_ids(folder)? {
        Some(ids) => ids,
        None => tokenizer.eos_id().into_iter().collect(),
    };
    Ok(tokenizer)
}

fn read_tokenizer(path: &Path) -> Result<tokenizers::Tokenizer> {
    if !path.exists() {
        let folder = path.parent().unwrap_or(path).to_owned();
        return Err(Error::NoTokenizer { path: folder });
    }
    let text = read_text(path)?;
    refuse_prefixes(path, &text)?;
    let mut inner: tokenizers::Tokenizer = text.parse().map_err(unusable(path))?;
    // What cuts and fills is decided where batches are made.
    inner.with_truncation(None).map_err(unusable(path))?;
    inner.with_padding(None);
    Ok(inner)
}

/// Refuses `continuing_subword_prefix`: no decoder has it, and the library panics on merges shorter than it.
fn refuse_prefixes(path: &Path, text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct File {
        model: Part,
    }
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        continuing_subword_prefix: Option<String>,
    }
    let file: File = serde_json::from_str(text)
        .map_err(|error| Error::Json { path: path.to_owned(), reason: error.to_string() })?;
    match file.model.continuing_subword_prefix.as_deref() {
        None | Some("") => Ok(()),
        Some(prefix) => Err(Error::Unsupported {
            path: path.to_owned(),
            setting: "continuing_subword_prefix".to_owned(),
            value: format!("`{prefix}`"),
            hint: "tokenizers of decoder models have none; take another model".to_owned(),
        }),
    }
}

/// Brings the tokenizer to where transformers brings it from its settings.
fn complete(inner: &mut tokenizers::Tokenizer, settings: &Settings) -> tokenizers::Result<()> {
    let known: HashSet<String> =
        inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    let missing: Vec<_> =
        settings.tokens().into_iter().filter(|token| !known.contains(&token.content)).collect();
    inner.add_tokens(missing)?;
    inner.set_encode_special_tokens(settings.flag("split_special_tokens").unwrap_or(false));
    // transformers' class for Qwen2 always normalises, also where tokenizer.json has lost it.
    let class = settings.text("tokenizer_class").unwrap_or_default();
    if class.trim_end_matches("Fast") == "Qwen2Tokenizer" && inner.get_normalizer().is_none() {
        inner.with_normalizer(Some(NormalizerWrapper::NFC(NFC)))?;
    }
    Ok(())
}

/// `tokenizer_config.json`, with the older `special_tokens_map.json` on top where the former lists no tokens.
fn read_settings(folder: &Path) -> Result<Map<String, Value>> {
    let mut settings = read_object(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    if !settings.contains_key("added_tokens_decoder") {
        let map = read_object(&folder.join("special_tokens_map.json"))?;
        settings.extend(map.unwrap_or_default());
    }
    Ok(settings)
}

/// Templates by name: from files of their own, else from the settings (one text, or a list with names).
fn read_templates(folder: &Path, setting: Option<Value>) -> Result<BTreeMap<String, String>> {
    let mut templates = BTreeMap::new();
    let usual = folder.join("chat_template.jinja");
    if usual.exists() {
        templates.insert(template::DEFAULT.to_owned(), read_text(&usual)?);
    }
    let further = folder.join("additional_chat_templates");
    if further.is_dir() {
        for entry in std::fs::read_dir(&further).map_err(read_error(&further))? {
            let path = entry.map_err(read_error(&further))?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (Some(name), true) = (name, path.extension().is_some_and(|kind| kind == "jinja")) {
                templates.insert(name.to_owned(), read_text(&path)?);
            }
        }
    }
    if templates.is_empty() {
        templates = match setting {
            Some(Value::String(source)) => BTreeMap::from([(template::DEFAULT.to_owned(), source)]),
            Some(Value::Array(named)) => {
                named.iter().map(|entry| named_template(folder, entry)).collect::<Result<_>>()?
            }
            _ => templates,
        };
    }
    Ok(templates)
}

/// A template in a list; its name becomes a file's name when the tokenizer is saved, so it must be plain.
fn named_template(folder: &Path, entry: &Value) -> Result<(String, String)> {
    let text = |field| entry.get(field).and_then(Value::as_str).map(str::to_owned);
    let plain = |name: &String| name.chars().all(|letter| letter.is_alphanumeric() || "_-".contains(letter));
    match (text("name").filter(plain), text("template")) {
        (Some(name), Some(source)) => Ok((name, source)),
        _ => Err(Error::Field {
            path: folder.join("tokenizer_config.json"),
            field: "chat_template".to_owned(),
            expected: "a text, or a list of `name` (letters, digits, _ and -) and `template`".to_owned(),
            got: entry.to_string(),
        }),
    }
}

/// `eos_token_id`, a number or a list, from the first file that has it.
fn read_eos_ids(folder: &Path) -> Result<Option<Vec<u32>>> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let field = read_object(&path)?.and_then(|mut fields| fields.remove("eos_token_id"));
        let Some(field) = field.filter(|field| !field.is_null()) else { continue };
        let ids = match &field {
            Value::Array(ids) => ids.iter().map(as_id).collect(),
            id => as_id(id).map(|id| vec![id]),
        };
        return ids.map(Some).ok_or_else(|| Error::Field {
            path,
            field: "eos_token_id".to_owned(),
            expected: "a token id or a list of them".to_owned(),
            got: field.to_string(),
        });
    }
    Ok(None)
}

fn as_id(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// The object in a JSON file, if there is such a file.
fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if path.exists() { file::read_json(path).map(Some) } else { Ok(None) }
}

fn read_text(path: &Path) -> Result<String> {
    std::io::read_to_string(file::open(path)?).map_err(read_error(path))
}

fn read_error(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |reason| collimate_run::Error::read(&path, reason).into()
}
