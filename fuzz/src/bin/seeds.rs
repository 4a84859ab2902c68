//! Writes the inputs from which the targets begin, into `corpus/`: what the fixtures hold, cut down to headers.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use collimate_fuzz::SEPARATOR;
use serde_json::Value;

/// Where the data of a GGUF fixture without a tokenizer begins, or a little behind.
const GGUF_HEADER: usize = 2400;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = root.join("../crates/model/tests/fixtures");
    let shared = root.join("../fixtures");
    gguf(&fixtures)?;
    safetensors(&fixtures, &shared)?;
    adapters(&[fixtures.join("adapter"), shared.join("tiny/llama/adapter"), shared.join("reward/adapter")])?;
    tokenizers(&fixtures.join("tokenizer"))?;
    templates(&fixtures.join("tokenizer"))
}

fn gguf(fixtures: &Path) -> Outcome {
    for path in files(fixtures, "gguf")? {
        let content = fs::read(&path)?;
        let kibibytes = u8::try_from((content.len() - GGUF_HEADER).div_ceil(1 << 10))?;
        seed("gguf", &path, &[&[kibibytes], &content[..GGUF_HEADER]].concat())?;
    }
    for path in files(&fixtures.join("tokenizer"), "gguf")? {
        seed("gguf", &path, &[&[0], &fs::read(&path)?[..]].concat())?;
    }
    Ok(())
}

fn safetensors(fixtures: &Path, shared: &Path) -> Outcome {
    for folder in [fixtures.join("tiny-qwen2"), shared.join("tiny/llama"), shared.join("reward/model")] {
        let single = header(&folder.join("model.safetensors"))?;
        seed("safetensors", &folder, &join(&[&fs::read(folder.join("config.json"))?, &Vec::new(), &single]))?;
    }
    let folder = shared.join("tiny/llama_untied_llama3rope");
    let mut index = fs::read_to_string(folder.join("model.safetensors.index.json"))?;
    let mut parts = vec![fs::read(folder.join("config.json"))?, Vec::new()];
    for number in [1, 2] {
        let name = format!("model-0000{number}-of-00002.safetensors");
        index = index.replace(&name, &format!("{number}.safetensors"));
        parts.push(header(&folder.join(name))?);
    }
    parts[1] = index.into_bytes();
    seed("safetensors", &folder, &join(&parts))
}

fn adapters(folders: &[PathBuf]) -> Outcome {
    for (number, folder) in folders.iter().enumerate() {
        let weights = header(&folder.join("adapter_model.safetensors"))?;
        let config = fs::read(folder.join("adapter_config.json"))?;
        seed("adapter", &folder.with_file_name(number.to_string()), &join(&[config, weights]))?;
    }
    Ok(())
}

fn tokenizers(fixtures: &Path) -> Outcome {
    for name in ["bytes", "pieces", "words"] {
        let folder = fixtures.join(name);
        let mut tokenizer: Value = serde_json::from_slice(&fs::read(folder.join("tokenizer.json"))?)?;
        let settings = fs::read(folder.join("tokenizer_config.json"))?;
        let text = "Two words, <s>質問 12's\n".as_bytes();
        seed("tokenizer", &folder, &join(&[&serde_json::to_vec(&tokenizer)?, &settings, text]))?;
        // A small one, which mutations get through.
        tokenizer["model"]["merges"] = Value::Array(Vec::new());
        if let Some(vocabulary) = tokenizer["model"]["vocab"].as_object_mut() {
            vocabulary.retain(|token, _| token.chars().count() == 1);
        }
        let small = folder.with_extension("small");
        seed("tokenizer", &small, &join(&[&serde_json::to_vec(&tokenizer)?, &settings, text]))?;
    }
    Ok(())
}

fn templates(fixtures: &Path) -> Outcome {
    let recorded: Value = serde_json::from_slice(&fs::read(fixtures.join("templates.json"))?)?;
    let conversations: Vec<&Value> =
        recorded["conversations"].as_object().into_iter().flatten().map(|(_, messages)| messages).collect();
    for (number, path) in files(&fixtures.join("templates"), "jinja")?.iter().enumerate() {
        let messages = conversations.get(number % conversations.len().max(1)).copied().cloned().unwrap_or_default();
        let tools = br#"[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}}]"#;
        seed("template", path, &join(&[&fs::read(path)?, &serde_json::to_vec(&messages)?, &tools[..]]))?;
    }
    Ok(())
}

/// The JSON at a safetensors file's beginning.
fn header(path: &Path) -> Outcome<Vec<u8>> {
    let content = fs::read(path)?;
    let length = u64::from_le_bytes(content[..8].try_into()?) as usize;
    Ok(content[8..8 + length].to_vec())
}

fn files(folder: &Path, extension: &str) -> Outcome<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Outcome<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    Ok(paths)
}

fn join<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(SEPARATOR)
}

/// Writes an input of `target`, named after the file or folder that it was made from.
fn seed(target: &str, path: &Path, content: &[u8]) -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    let name = path.file_name().unwrap_or_default();
    Ok(fs::write(folder.join(name), content)?)
}
