//! `model export`: a model, or an adapter alone, for other programs.

use std::path::{Path, PathBuf};

use collimate_model::gguf::{self, GgufType};
use collimate_model::{Lora, Model, StoredType, Tokenizer};
use collimate_run::{Context, Event, Stage, atomic, peak_memory};
use serde::Serialize;
use serde_json::{Value, json};

use super::sources::{Opened, Sources};
use super::writing::{Storage, Written, file_name, name_of, size};
use crate::Error;
use crate::sampling::is_default;

/// How Ollama is told of a model.
pub const MODELFILE: &str = "Modelfile";

/// Write a model for other programs, with adapters merged into it on the way; or an adapter alone for llama.cpp.
///
/// What was written is then read again and compared with what was to be written: how much rounding changes, and how
/// much of the adapters' change survives it.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// What is exported.
    #[command(flatten)]
    #[serde(flatten)]
    pub sources: Sources,
    /// For which programs: hf, a folder for transformers and vLLM; gguf, a file for llama.cpp (which heeds no window
    /// of Phi-3), and beside it a Modelfile for Ollama; gguf_lora, the one adapter alone, for llama.cpp's --lora.
    #[arg(long, value_name = "NAME", default_value_t = Format::Gguf, value_enum)]
    pub format: Format,
    /// The type of the weights in a GGUF file, by llama.cpp's name: F32, F16, BF16, Q8_0, Q4_0, Q4_K and others; if
    /// not given, that of most of the model's own, and F16 where those are quantised.
    #[arg(long, value_name = "NAME")]
    pub outtype: Option<GgufType>,
    /// Folder for what is written.
    #[arg(long, value_name = "FOLDER", default_value = "models/exported")]
    #[serde(skip)]
    pub output_dir: PathBuf,
    /// How a folder is stored.
    #[command(flatten)]
    #[serde(flatten)]
    pub storage: Storage,
}

/// In which form a model is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Format {
    /// A Hugging Face folder.
    Hf,
    /// A GGUF file.
    Gguf,
    /// A GGUF file of an adapter alone.
    GgufLora,
}

/// The stage that exports.
pub struct ModelExport {
    config: Config,
}

impl ModelExport {
    /// A stage with these settings.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl Stage for ModelExport {
    const NAME: &'static str = "model_export";
    type Error = Error;
    type Summary = Written;

    fn settings(&self) -> Value {
        json!(self.config)
    }

    fn inputs(&self) -> Vec<PathBuf> {
        self.config.sources.inputs()
    }

    fn output(&self) -> &Path {
        &self.config.output_dir
    }

    fn run(&self, context: &Context) -> Result<Written, Error> {
        let Config { sources, format, outtype, storage, .. } = &self.config;
        self.config.check()?;
        match format {
            Format::Hf => storage.write(sources, context),
            Format::Gguf => write_gguf(sources, *outtype, context),
            Format::GgufLora => write_adapter(sources, context),
        }
    }
}

impl Config {
    /// Whether all that is said is heeded.
    fn check(&self) -> Result<(), Error> {
        let given = |name: &&str| !is_default(self, name);
        let (choice, by, names) = match self.format {
            Format::Hf => ("hf", "--format gguf", &["outtype"][..]),
            Format::Gguf => ("gguf", "--format hf", &["dtype", "max_shard_size"][..]),
            Format::GgufLora => (
                "gguf_lora",
                "another --format",
                &["outtype", "dtype", "max_shard_size", "adapter_weights"][..],
            ),
        };
        let settings: Vec<&str> = names.iter().copied().filter(given).collect();
        match settings.is_empty() {
            true => Ok(()),
            false => Err(Error::Unheeded { what: "format".to_owned(), choice, by, settings }),
        }
    }
}

/// Writes a GGUF file and a Modelfile.
fn write_gguf(sources: &Sources, outtype: Option<GgufType>, context: &Context) -> Result<Written, Error> {
    let opened = sources.open()?;
    let Opened { base, merged } = &opened;
    let tokenizer = sources.tokenizer(base, context)?;
    let kind = outtype.unwrap_or_else(|| match base.stored_type() {
        Some(StoredType::F32) => GgufType::F32,
        Some(StoredType::Bf16) => GgufType::Bf16,
        Some(StoredType::F16) | None => GgufType::F16,
    });
    let path = context.output().join(format!("model-{}.gguf", kind.name()));
    context.report(Event::Started { task: "writing the model", total: None, unit: "weights" });
    let report = gguf::write(merged, tokenizer.as_ref(), &path, kind)?;
    context.report(Event::Finished);
    if let Some(window) = report.unheeded_window {
        context.report(Event::Warning(&format!(
            "llama.cpp does not heed the model's window of {window} tokens: on longer texts it answers otherwise than \
             the model does here"
        )));
    }
    let written = opened.compare((&path, kind.name()), context)?;
    let modelfile = modelfile(&path, tokenizer.as_ref());
    atomic::write(context.output().join(MODELFILE), modelfile.as_bytes())?;
    Ok(written)
}

/// Writes an adapter alone as llama.cpp reads it.
fn write_adapter(sources: &Sources, context: &Context) -> Result<Written, Error> {
    let [folder] = sources.adapter_name_or_path.as_slice() else {
        return Err(Error::NotOneAdapter { adapters: sources.adapter_name_or_path.len() });
    };
    let base = Model::open(&sources.model_name_or_path)?;
    let lora = Lora::load(folder, base.config())?;
    let path = context.output().join("adapter-F32.gguf");
    gguf::write_adapter(&lora, base.config(), &path)?;
    Ok(Written {
        file: file_name(&path),
        from: name_of(&base).to_owned(),
        dtype: GgufType::F32.name().to_owned(),
        bytes: size(&path),
        fidelity: None,
        peak_memory_bytes: peak_memory(),
    })
}

/// What `ollama create` reads (docs/modelfile.md of Ollama): the file beside it, and where answers end. The chat
/// template it finds in the file.
fn modelfile(path: &Path, tokenizer: Option<&Tokenizer>) -> String {
    let ends =
        |tokenizer: &Tokenizer| tokenizer.eos_ids().iter().filter_map(|id| tokenizer.token(*id)).collect();
    let stops = tokenizer.map_or_else(Vec::new, ends).into_iter();
    // A quote would end the text, and there is no way around it.
    let stops = stops.filter(|token| !token.contains(['"', '\n']));
    let stops = stops.map(|token| format!("PARAMETER stop \"{token}\"\n"));
    format!("FROM ./{}\n{}", file_name(path).unwrap_or_default(), stops.collect::<String>())
}
