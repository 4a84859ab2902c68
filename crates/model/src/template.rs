//! Chat templates: the Jinja programs that turn messages into the text which a model was trained on.
//!
//! Templates come with models from strangers, so they run in a sandbox: no files, no network, and a budget
//! of steps that also pays for every byte that they make.

mod data;
mod environment;
mod generation;
mod json;
mod methods;
mod number;
mod text;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::Duration;

use minijinja::Environment;
use serde_json::{Map, Value};

use self::environment::Raised;
use crate::error::{Error, Result, nearest};

/// The name of a model's only or usual template.
pub const DEFAULT: &str = "default";

/// The name of the template that is taken when tools are given.
pub const TOOL_USE: &str = "tool_use";

/// The stack on which templates run; only what is used of it takes memory.
///
/// Expressions as deep as the longest source allows, and values as deep as the budget allows, need a quarter of
/// it; on a usual stack they would end the whole program.
const STACK_BYTES: usize = 256 << 20;

/// Time after which a template is given up. The budget of steps ends nearly all that would take long; not paid
/// for is the engine's own work on values that share their parts many times over, such as comparing them.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A model's chat templates by name, with the special tokens that they refer to; cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate {
    sources: Arc<BTreeMap<String, String>>,
    environment: Arc<Environment<'static>>,
    special_tokens: Map<String, Value>,
}

/// What a template is rendered with besides the messages.
#[derive(Debug, Clone, Default)]
pub struct TemplateOptions {
    /// End with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Tools as JSON schemas.
    pub tools: Option<Vec<Value>>,
    /// Documents with `title` and `text`, for templates that know them.
    pub documents: Option<Vec<Value>>,
    /// The template to use; without it, [`TOOL_USE`] where there are tools and such a template, else [`DEFAULT`].
    pub name: Option<String>,
    /// Further variables such as `enable_thinking`; they go before the special tokens of the same name.
    pub variables: Map<String, Value>,
}

impl ChatTemplate {
    /// Makes a template of one source, named [`DEFAULT`].
    ///
    /// `special_tokens` holds `bos_token`, `eos_token` and their like. The source is compiled at its first use.
    pub fn new(source: impl Into<String>, special_tokens: Map<String, Value>) -> Self {
        Self::named(BTreeMap::from([(DEFAULT.to_owned(), source.into())]), special_tokens)
    }

    /// Makes a template of several sources by name.
    pub fn named(sources: BTreeMap<String, String>, special_tokens: Map<String, Value>) -> Self {
        let sources = Arc::new(sources);
        let environment = Arc::new(environment::sandbox(Arc::clone(&sources)));
        Self { sources, environment, special_tokens }
    }

    /// The sources by name.
    pub fn sources(&self) -> &BTreeMap<String, String> {
        &self.sources
    }

    /// Whether `{% generation %}` marks what the assistant says.
    pub fn marks_generation(&self) -> bool {
        self.sources.values().any(|source| generation::marks(source))
    }

    /// Renders `messages`, as `apply_chat_template(..., tokenize=False)` does in transformers.
    ///
    /// Fails with [`Error::TemplateRaised`] where the template itself refuses the messages, with
    /// [`Error::Template`] where it is wrong or asks for too much.
    pub fn render(&self, messages: &[Value], options: &TemplateOptions) -> Result<String> {
        let name = self.choose(options)?;
        let context = data::context(messages, options, &self.special_tokens);
        let failure = |reason: String| Error::Template { template: name.to_owned(), line: 1, reason };
        let (sender, receiver) = mpsc::channel();
        let (environment, task_name) = (Arc::clone(&self.environment), name.to_owned());
        let task = move || {
            let rendered = environment.get_template(&task_name).and_then(|template| template.render(context));
            // The error may hold values of any depth, so it too is taken apart on the large stack. Nobody
            // listens any more when the time is over.
            let _ = sender.send(rendered.map_err(|error| describe(&task_name, &error)));
        };
        let worker = Builder::new().name("template".to_owned()).stack_size(STACK_BYTES).spawn(task);
        worker.map_err(|reason| failure(format!("no thread could be started for it: {reason}")))?;
        match receiver.recv_timeout(TIME_LIMIT) {
            Ok(rendered) => rendered,
            Err(RecvTimeoutError::Timeout) => Err(failure(format!("it takes more than {TIME_LIMIT:?}"))),
            Err(RecvTimeoutError::Disconnected) => Err(failure("the template engine broke off".to_owned())),
        }
    }

    fn choose<'a>(&'a self, options: &'a TemplateOptions) -> Result<&'a str> {
        let name = match &options.name {
            Some(name) => name,
            None if options.tools.is_some() && self.sources.contains_key(TOOL_USE) => TOOL_USE,
            None => DEFAULT,
        };
        if self.sources.contains_key(name) {
            return Ok(name);
        }
        let known: Vec<&str> = self.sources.keys().map(String::as_str).collect();
        Err(Error::UnknownTemplate {
            name: name.to_owned(),
            nearest: nearest(name, known.iter().copied()),
            known: known.join(", "),
        })
    }
}

/// What went wrong in the template `name`, with all that keeps a value alive left behind.
fn describe(name: &str, error: &minijinja::Error) -> Error {
    let template = error.name().unwrap_or(name).to_owned();
    let line = error.line().unwrap_or(1);
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return Error::TemplateRaised { template, line, message: message.clone() };
        }
        reason = inner.to_string();
        cause = inner.source();
    }
    Error::Template { template, line, reason: environment::explain(error).unwrap_or(reason) }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChatTemplate").field("sources", &self.sources).finish_non_exhaustive()
    }
}
