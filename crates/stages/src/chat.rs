//! `chat`: a conversation with a model, turn by turn; who shows it, and where, is the caller's business.

use collimate_generate::{
    Answer, Error as GenerateError, FinishReason, Prompt, Request, Sample, SamplingOptions,
};
use collimate_run::{Context, Error as RunError};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Error;
use crate::generator::{Adapters, Batch, ModelSettings, NO_ADAPTER, Selection, ServerSettings, Source};
use crate::sampling::Sampling;

/// The commands of a conversation, as `/help` lists them.
const HELP: &str = "/reset           begin anew
/system [TEXT]   tell the model something beforehand; without a text, nothing
/adapter [NAME]  let another adapter answer, or none; without a name, list them
/help            this list
/quit            end, as the end of input does; Ctrl-C ends an answer";

/// Hold a conversation with a model.
///
/// A line is a message; one that begins with a slash is a command, and /help lists them. Where the
/// conversation outgrows the model's context, its oldest turns are forgotten; a server says so itself.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: ModelSettings,
    /// Its adapters.
    #[command(flatten)]
    #[serde(flatten)]
    pub adapters: Adapters,
    /// What the model is told beforehand.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// How it answers.
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: Sampling,
    /// A server that answers.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerSettings,
}

/// A conversation.
pub struct Chat {
    source: Source,
    options: SamplingOptions,
    adapters: Adapters,
    server: ServerSettings,
    /// The adapter that answers.
    adapter: Option<String>,
    system: Option<String>,
    /// What was said and is not forgotten, by turns: a message of the user, then one of the assistant.
    messages: Vec<Value>,
    /// Answers so far, which name the streams of random draws.
    answers: u64,
}

/// What a command leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Something to read.
    Note(String),
    /// The end.
    Quit,
}

/// An answer, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// The text.
    pub content: String,
    /// Why it ended; none where the person stopped it.
    pub finish_reason: Option<FinishReason>,
    /// The oldest turns that were forgotten for it.
    pub forgotten: usize,
}

impl Turn {
    /// What a person should know of it.
    pub fn notes(&self) -> Vec<String> {
        let forgotten = match self.forgotten {
            0 => None,
            1 => Some("the oldest turn no longer fits the model's context and is forgotten".to_owned()),
            many => {
                Some(format!("the {many} oldest turns no longer fit the model's context and are forgotten"))
            }
        };
        let cut_off = (self.finish_reason == Some(FinishReason::Length)).then(|| {
            "the answer was cut off: it reached max_new_tokens, or the end of the context".to_owned()
        });
        forgotten.into_iter().chain(cut_off).collect()
    }
}

impl Chat {
    /// Loads the model, or prepares to ask the server with its key; the number of threads (one a core, if
    /// not given) changes no answer.
    ///
    /// # Errors
    /// Settings out of range, a model or adapter that cannot be loaded, a model without a chat template.
    pub fn open(
        config: Config,
        threads: Option<usize>,
        api_key: Option<&SecretString>,
        context: &Context,
    ) -> Result<Self, Error> {
        let Config { model, adapters, system, sampling, server } = config;
        let (options, adapter) = (sampling.options()?, adapters.chosen(&server)?);
        let selection = Selection {
            model: &model,
            adapters: &adapters.adapter_name_or_path,
            batch: &Batch::default(),
            threads,
            server: server.options(&model, api_key),
        };
        let source = Source::open(selection, context)?;
        if !source.has_chat_template() {
            return Err(GenerateError::NoChatTemplate { number: 1 }.into());
        }
        let messages = Vec::new();
        Ok(Self { source, options, adapters, server, adapter, system, messages, answers: 0 })
    }

    /// Does what a line asks that begins with a slash; none for a line that is a message.
    pub fn command(&mut self, line: &str) -> Option<Reply> {
        let words = line.trim().strip_prefix('/')?;
        let (name, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
        let rest = rest.trim();
        Some(Reply::Note(match name {
            "quit" | "exit" => return Some(Reply::Quit),
            "help" => HELP.to_owned(),
            "reset" => {
                self.messages.clear();
                "the conversation begins anew".to_owned()
            }
            "system" => {
                self.system = Some(rest.to_owned()).filter(|text| !text.is_empty());
                let told = if self.system.is_some() { "this" } else { "nothing" };
                format!("the model is told {told} beforehand")
            }
            "adapter" if rest.is_empty() => {
                let served = self.server.is_asked().then_some("what the server has");
                let names = self.adapters.names().into_iter().chain(served).chain([NO_ADAPTER]);
                format!("{} answers; at hand: {}", self.answering(), names.collect::<Vec<_>>().join(", "))
            }
            "adapter" => match self.adapters.named(rest, &self.server) {
                Ok(adapter) => {
                    self.adapter = adapter;
                    format!("{} answers from now on", self.answering())
                }
                Err(error) => format!("{error}; /adapter lists those at hand"),
            },
            unknown => format!("/{unknown} is not a command; /help lists them"),
        }))
    }

    fn answering(&self) -> &str {
        self.adapter.as_deref().unwrap_or("the model alone")
    }

    /// Answers a message and hands `show` the text piece by piece. A message that cannot be answered is not
    /// part of the conversation; an answer that the person stops is, as far as it came.
    ///
    /// # Errors
    /// A message that is too long for the model, or that its chat template refuses; what the generator fails with.
    pub fn answer(
        &mut self,
        message: &str,
        context: &Context,
        show: &mut dyn FnMut(&str),
    ) -> Result<Turn, Error> {
        self.messages.push(json!({ "role": "user", "content": message }));
        let turn = self.write(context, show);
        match &turn {
            Ok(turn) if !turn.content.is_empty() || turn.finish_reason.is_some() => {
                self.messages.push(json!({ "role": "assistant", "content": turn.content }));
                self.messages.drain(..2 * turn.forgotten);
            }
            _ => drop(self.messages.pop()),
        }
        self.answers += 1;
        turn
    }

    /// The answer to the last message.
    fn write(&mut self, context: &Context, show: &mut dyn FnMut(&str)) -> Result<Turn, Error> {
        let forgotten = self.in_the_way()?;
        let (adapter, prompt) = (self.adapter.clone(), Prompt::Chat(self.prompt(forgotten)));
        let request = Request { adapter, stream: true, ..Request::new(prompt, self.answers) };
        let (mut shown, mut ended) = (String::new(), None);
        let mut generator = self.source.generator("answering");
        let written = generator.generate(&[request], &self.options, context, &mut |answer| {
            match answer {
                Answer::Piece { text, .. } if text.is_empty() => {}
                Answer::Piece { text, .. } => {
                    show(&text);
                    shown.push_str(&text);
                }
                Answer::Sample { sample, .. } => ended = Some(sample),
                Answer::Refused { error, .. } => return Err(error),
            }
            Ok(())
        });
        match (written, ended) {
            (Ok(()), Some(Sample { text, finish_reason, .. })) => {
                // What could not be shown before the end was known.
                if let Some(rest) = text.strip_prefix(&shown).filter(|rest| !rest.is_empty()) {
                    show(rest);
                }
                Ok(Turn { content: text, finish_reason: Some(finish_reason), forgotten })
            }
            (Ok(()), None) | (Err(GenerateError::Run(RunError::Interrupted)), _) => {
                Ok(Turn { content: shown, finish_reason: None, forgotten })
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// How many of the oldest turns must be forgotten until there is room for an answer.
    fn in_the_way(&self) -> Result<usize, Error> {
        let (earlier, answer) = (self.messages.len() / 2, self.options.max_new_tokens);
        for forgotten in 0..earlier {
            if self.source.has_room(&self.prompt(forgotten), answer)? {
                return Ok(forgotten);
            }
        }
        Ok(earlier)
    }

    /// The conversation without its oldest turns, as the model reads it.
    fn prompt(&self, forgotten: usize) -> Vec<Value> {
        let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
        system.chain(self.messages[2 * forgotten..].iter().cloned()).collect()
    }
}
