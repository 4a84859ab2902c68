//! The settings that the stages share in which a judge writes.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use collimate_generate::{Constraint, Request, SamplingOptions};
use collimate_judge::{Language, longest_reason, schema};
use collimate_run::Context;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Asking;
use crate::Error;
use crate::generator::{Batch, ModelSettings, NamedAdapter, Selection, ServerSettings, Source};
use crate::prompts::PromptFormat;
use crate::sampling::{Drawing, Writing, described};

/// What the adapter is called among the requests.
const ADAPTER: &str = "judge";
/// Who judges what, and how the judgements are written.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    mut_arg("temperature", |argument| argument.default_value("1.2")),
    mut_arg("top_p", |argument| argument.default_value("0.95")),
    mut_arg("max_new_tokens", |argument| argument.default_value("512")),
    mut_arg("seed", |argument| argument.default_value("1688"))
)]
pub struct JudgeSettings {
    /// The model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelSettings,
    /// How much is written at once.
    #[command(flatten)]
    #[serde(flatten)]
    pub batch: Batch,
    /// An adapter on the model.
    #[arg(long, value_name = "FOLDER")]
    pub adapter_name_or_path: Option<PathBuf>,
    /// Prompts, as `judge prompts` and `judge translate` write them.
    #[arg(long, value_name = "FILE")]
    pub dataset: PathBuf,
    /// How a prompt is put to the model: chat (as a user's message in its chat template), plain (as it
    /// stands), instruction (the format of `data sft`), or auto: chat if the model has a template, else plain.
    #[arg(long, value_name = "NAME", default_value_t = PromptFormat::Auto)]
    pub prompt_format: PromptFormat,
    /// Tokens of a prompt and of the longest judgement, at most: a prompt that leaves less room is set aside in
    /// rejects.jsonl.
    #[arg(long, value_name = "TOKENS", default_value_t = 6_400, conflicts_with = "server",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_length: usize,
    /// Stop at the first bad row instead of setting it aside in rejects.jsonl.
    #[arg(long)]
    pub strict: bool,
    /// How tokens are drawn.
    #[command(flatten)]
    #[serde(flatten)]
    pub drawing: Drawing,
    /// All else of the writing.
    #[command(flatten)]
    #[serde(flatten)]
    pub writing: Writing,
    /// A server that judges.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerSettings,
}

impl JudgeSettings {
    /// What they mean to a generator.
    pub(super) fn options(&self) -> Result<SamplingOptions, Error> {
        let max_length = Some(self.max_length).filter(|_| !self.server.is_asked());
        Ok(SamplingOptions { max_length, ..self.writing.options(&self.drawing)? })
    }

    /// Opens the model or the server, and all else that asking takes: at the leader. Any other worker gets nothing, once
    /// it has helped.
    pub(super) fn open<'a>(
        &'a self,
        threads: Option<usize>,
        api_key: Option<&SecretString>,
        context: &Context<'a>,
    ) -> Result<Option<Asking<'a>>, Error> {
        let Self { model, batch, server, dataset, .. } = self;
        let named = |folder: &PathBuf| NamedAdapter { name: ADAPTER.to_owned(), folder: folder.clone() };
        let adapter = self.adapter_name_or_path.as_ref().map(named);
        let server = server.options(model, api_key);
        let source =
            Source::open(Selection { model, adapters: adapter.as_slice(), batch, threads, server }, context)?;
        let Some(source) = source.shared(context)? else { return Ok(None) };
        Asking::open(source, self.prompt_format, (dataset, self.strict), context).map(Some)
    }

    /// A request for these samples of a text.
    pub(super) fn request(&self, asking: &Asking<'_>, text: &str, key: u64, samples: Vec<u64>) -> Request {
        let adapter = self.adapter_name_or_path.as_ref().map(|_| ADAPTER.to_owned());
        Request { samples, adapter, ..Request::new(asking.prompt(text), key) }
    }

    /// The settings as a manifest keeps them.
    pub(super) fn described(&self) -> Map<String, Value> {
        let mut settings = described(&self.drawing, &[]);
        settings.append(&mut described(&self.writing, &["schema"]));
        settings.append(&mut self.server.described(&self.model));
        let others = json!({
            "adapter_name_or_path": self.adapter_name_or_path.is_some(),
            "prompt_format": self.prompt_format,
            "max_length": self.max_length,
            "strict": self.strict,
        });
        settings.extend(others.as_object().cloned().unwrap_or_default());
        settings
    }

    /// The files that are read.
    pub(super) fn inputs(&self) -> Vec<PathBuf> {
        let Self { model, adapter_name_or_path, dataset, writing, server, .. } = self;
        let files = [dataset].into_iter().chain(adapter_name_or_path).chain(&writing.schema);
        server.input(model).into_iter().chain(files.map(PathBuf::as_path)).map(Path::to_owned).collect()
    }
}

/// That an answer is a judgement with the keys of this language, and so short that all of it fits into `max_new_tokens`.
pub(super) fn constraint(language: Language, max_new_tokens: usize) -> Constraint {
    Constraint::Json(schema(language, longest_reason(language, max_new_tokens)))
}
