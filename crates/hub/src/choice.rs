//! Which files of a model are fetched: what describes it, and its weights, never as pickles.

use std::path::{Component, Path};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use crate::client::FileMetadata;
use crate::error::{HubError, Result};
use crate::id::HubId;

/// The files that say what a model or an adapter is, and how it reads and writes text.
const DESCRIPTION: [&str; 12] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "adapter_config.json",
];
/// The folder of a model's further chat templates.
const TEMPLATES: &str = "additional_chat_templates/";
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter_model.safetensors";
/// Bytes of an index, which is read as a whole.
const LONGEST_INDEX: u64 = 64 << 20;
/// Forms of weights that are programs at the same time.
const PICKLES: [&str; 6] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"];
/// Names of files that an error shows.
const SHOWN: usize = 12;

/// What is to be fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The files; the index of the shards among them, if there is one.
    pub(crate) files: Vec<String>,
    /// That index: what it names is to be fetched too.
    pub(crate) index: Option<&'static str>,
}

/// Chooses among the files of a model: all that fit a pattern of `include`; without one, the description and the
/// weights as safetensors.
///
/// Errors: a name that leads out of the model's folder; nothing but pickles, GGUF files or other things.
pub(crate) fn choose(id: &HubId, files: &[String], include: &[String]) -> Result<Choice> {
    if let Some(name) = files.iter().find(|name| !is_safe(name)) {
        return Err(HubError::UnsafeName { id: id.to_string(), name: name.clone() });
    }
    if !include.is_empty() {
        return choose_included(id, files, include);
    }
    let there = |name: &str| files.iter().any(|file| file == name);
    let weights: Vec<&str> = if there(WHOLE) {
        vec![WHOLE]
    } else if there(INDEX) {
        vec![INDEX]
    } else if there(ADAPTER) {
        vec![ADAPTER]
    } else {
        return Err(no_safetensors(id, files));
    };
    let describes = |file: &&String| DESCRIPTION.contains(&file.as_str()) || file.starts_with(TEMPLATES);
    let chosen = files.iter().filter(describes).map(String::as_str).chain(weights.iter().copied());
    Ok(Choice {
        files: chosen.map(str::to_owned).collect(),
        index: weights.contains(&INDEX).then_some(INDEX),
    })
}

/// Refuses an index, before it is fetched, that is larger than any.
pub(crate) fn check_index(id: &HubId, file: &FileMetadata) -> Result<()> {
    if file.name != INDEX || file.size <= LONGEST_INDEX {
        return Ok(());
    }
    let reason = format!("{INDEX} is said to have {} bytes, more than {LONGEST_INDEX}", file.size);
    Err(HubError::Strange { host: id.to_string(), reason })
}

/// The shards that an index names, all of which must be among the model's `files`.
pub(crate) fn shards(id: &HubId, index: &Path, files: &[String]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let strange = |reason: String| HubError::Strange { host: id.to_string(), reason };
    let bytes = std::fs::read(index).map_err(|source| collimate_run::Error::read(index, source))?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| strange(format!("{INDEX} cannot be read: {error}")))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    match names.iter().find(|name| !files.contains(name) || !name.ends_with(".safetensors")) {
        Some(name) => Err(strange(format!("{INDEX} names {name:?}, which is no safetensors file there"))),
        None => Ok(names),
    }
}

fn choose_included(id: &HubId, files: &[String], include: &[String]) -> Result<Choice> {
    let patterns = patterns(include)?;
    let chosen: Vec<String> = files.iter().filter(|file| patterns.is_match(file)).cloned().collect();
    if let Some(file) = chosen.iter().find(|file| is_pickle(file)) {
        return Err(HubError::Pickle { file: file.clone() });
    }
    if chosen.is_empty() {
        let weights = files.iter().filter(|file| file.ends_with(".gguf") || file.ends_with(".safetensors"));
        let (id, patterns) = (id.to_string(), include.join(" "));
        return Err(HubError::NothingIncluded { id, patterns, files: list(weights) });
    }
    Ok(Choice { files: chosen, index: None })
}

fn patterns(texts: &[String]) -> Result<GlobSet> {
    let wrong = |pattern: &str, error: globset::Error| HubError::Pattern {
        pattern: pattern.to_owned(),
        reason: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for text in texts {
        set.add(Glob::new(text).map_err(|error| wrong(text, error))?);
    }
    set.build().map_err(|error| wrong(&texts.join(" "), error))
}

/// Why there is nothing to fetch.
fn no_safetensors(id: &HubId, files: &[String]) -> HubError {
    let id = id.to_string();
    let gguf: Vec<&String> = files.iter().filter(|file| file.ends_with(".gguf")).collect();
    if let Some(first) = gguf.first() {
        let example = gguf.iter().find(|name| name.contains("Q4_K_M")).unwrap_or(first);
        return HubError::OnlyGguf { id, example: (*example).clone(), files: list(gguf.iter().copied()) };
    }
    match files.iter().find(|file| is_pickle(file)) {
        Some(file) => HubError::OnlyPickles { id, file: file.clone() },
        None => HubError::NoWeights { id, count: files.len() },
    }
}

fn is_pickle(file: &str) -> bool {
    PICKLES.iter().any(|ending| file.ends_with(ending))
}

/// Whether a file of this name lies in the folder in which it is put, on every system.
fn is_safe(name: &str) -> bool {
    let parts = || name.split('/');
    !name.contains(['\\', ':', '\0'])
        && parts().all(|part| !part.is_empty() && part != "." && part != "..")
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn list<'a>(files: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = files.map(String::as_str).collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&str], include: &[&str]) -> Result<Choice> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        choose(&"org/name".parse().unwrap(), &own(files), &own(include))
    }

    #[test]
    fn descriptions_and_one_form_of_the_weights_are_taken() {
        let there = [
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model.safetensors",
            "original/model.pth",
            "pytorch_model.bin",
            "additional_chat_templates/rag.jinja",
            "tokenizer.json",
        ];
        let choice = chosen(&there, &[]).unwrap();
        let expected =
            ["config.json", "additional_chat_templates/rag.jinja", "tokenizer.json", "model.safetensors"];
        assert_eq!(choice.files, expected);
        let sharded = chosen(&["config.json", INDEX, "model-00001-of-00001.safetensors"], &[]).unwrap();
        assert_eq!((sharded.files.len(), sharded.index), (2, Some(INDEX)));
    }

    #[test]
    fn what_has_no_sound_weights_is_refused_with_the_reason() {
        let of = |files: &[&str], include: &[&str]| chosen(files, include).unwrap_err();
        let pickles = of(&["config.json", "pytorch_model.bin"], &[]);
        assert!(matches!(pickles, HubError::OnlyPickles { file, .. } if file == "pytorch_model.bin"));
        assert!(matches!(of(&["a.bin"], &["*.bin"]), HubError::Pickle { .. }));
        assert!(matches!(of(&["README.md"], &[]), HubError::NoWeights { count: 1, .. }));
        let gguf = of(&["a-Q8_0.gguf", "a-Q4_K_M.gguf"], &[]);
        assert!(matches!(gguf, HubError::OnlyGguf { example, .. } if example == "a-Q4_K_M.gguf"));
        assert!(
            matches!(of(&["a.gguf"], &["*Q9*"]), HubError::NothingIncluded { files, .. } if files == "a.gguf")
        );
        assert!(matches!(of(&["a.gguf"], &["[a"]), HubError::Pattern { .. }));
        assert_eq!(chosen(&["a-Q8_0.gguf", "b.gguf"], &["*Q8_0*"]).unwrap().files, ["a-Q8_0.gguf"]);
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused() {
        for name in ["../a", "a/../../b", "/etc/passwd", "a//b", "", ".", "..", "a\\..\\b", "C:\\a", "a/./b"]
        {
            let refused = chosen(&["model.safetensors", name], &[]);
            assert!(matches!(refused, Err(HubError::UnsafeName { .. })), "{name}");
        }
        assert!(is_safe("a..b/.c"));
    }
}
