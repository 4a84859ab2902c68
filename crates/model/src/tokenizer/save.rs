//! A tokenizer written as a Hugging Face folder holds it.

use std::path::Path;

use collimate_run::atomic;
use serde_json::Value;

use super::{Tokenizer, unusable};
use crate::error::Result;
use crate::file::write_json;
use crate::template;

pub(super) fn write(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|reason| collimate_run::Error::write(folder, reason))?;
    let path = folder.join("tokenizer.json");
    let text = tokenizer.inner.to_string(true).map_err(unusable(&path))?;
    atomic::write(&path, text.as_bytes())?;
    let mut settings = tokenizer.settings.0.clone();
    // The older list of tokens would go before the files written here.
    settings.remove("added_tokens_decoder");
    write_json(&folder.join("tokenizer_config.json"), &Value::Object(settings))?;
    let special_tokens = tokenizer.settings.special_tokens();
    write_json(&folder.join("special_tokens_map.json"), &Value::Object(special_tokens))?;
    write_templates(tokenizer, folder)
}

fn write_templates(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    let Some(chat_template) = tokenizer.chat_template() else { return Ok(()) };
    for (name, source) in chat_template.sources() {
        if name == template::DEFAULT {
            atomic::write(folder.join("chat_template.jinja"), source.as_bytes())?;
            continue;
        }
        let further = folder.join("additional_chat_templates");
        std::fs::create_dir_all(&further).map_err(|reason| collimate_run::Error::write(&further, reason))?;
        atomic::write(further.join(format!("{name}.jinja")), source.as_bytes())?;
    }
    Ok(())
}
