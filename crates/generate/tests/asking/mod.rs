//! What the tests of the generator on a server share: how it is asked, and what becomes of it.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use collimate_generate::{
    Answer, Endpoint, Error, Generator, Prompt, Request, Result, Sample, SamplingOptions, ServerError,
    ServerGenerator, ServerOptions,
};
use collimate_run::{Context, Event, Reporter, RunOptions};
use miette::Diagnostic;
use serde_json::json;

use crate::scripted::Server;

pub const KEY: &str = "sk-secret-of-the-test";

/// Keeps what a person would see.
#[derive(Default)]
pub struct Screen(pub Mutex<Vec<String>>);

impl Reporter for Screen {
    fn report(&self, event: Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// What became of some requests.
pub struct Outcome {
    pub result: Result<()>,
    pub answers: Vec<Answer>,
    pub events: Vec<String>,
    pub spent: u64,
}

impl Outcome {
    pub fn samples(&self) -> Vec<&Sample> {
        let samples = self.answers.iter().filter_map(|answer| match answer {
            Answer::Sample { sample, .. } => Some(sample),
            _ => None,
        });
        samples.collect()
    }

    pub fn texts(&self) -> Vec<&str> {
        self.samples().into_iter().map(|sample| sample.text.as_str()).collect()
    }

    pub fn pieces(&self) -> Vec<&str> {
        let pieces = self.answers.iter().filter_map(|answer| match answer {
            Answer::Piece { text, .. } => Some(text.as_str()),
            _ => None,
        });
        pieces.collect()
    }

    /// What was refused, if nothing else went wrong.
    pub fn refusals(&self) -> Vec<&ServerError> {
        self.result.as_ref().unwrap();
        let errors = self.answers.iter().filter_map(|answer| match answer {
            Answer::Refused { error, .. } => Some(of_server(error)),
            _ => None,
        });
        errors.collect()
    }

    pub fn refusal(&self) -> &ServerError {
        let refusals = self.refusals();
        assert_eq!(refusals.len(), 1, "{:?}", self.answers);
        refusals[0]
    }

    pub fn error(&self) -> &ServerError {
        of_server(self.result.as_ref().unwrap_err())
    }
}

pub fn of_server(error: &Error) -> &ServerError {
    assert!(!format!("{error} {error:?} {}", error.help().unwrap()).contains(KEY), "{error:?}");
    match error {
        Error::Server(error) => error,
        other => panic!("{other:?}"),
    }
}

/// A server that is not waited for long.
pub fn options(server: &Server) -> ServerOptions {
    ServerOptions {
        api_key: Some(KEY.to_owned().into()),
        timeout: Duration::from_secs(5),
        max_retries: 2,
        backoff: Duration::from_millis(2),
        ..ServerOptions::new(&server.base_url, "base")
    }
}

pub fn chat(text: &str) -> Request {
    Request::new(Prompt::Chat(vec![json!({"role": "user", "content": text})]), 1)
}

pub fn drawn() -> SamplingOptions {
    SamplingOptions { do_sample: true, max_new_tokens: 20, ..SamplingOptions::default() }
}

pub fn ask_with(options: ServerOptions, requests: &[Request], sampling: &SamplingOptions) -> Outcome {
    ask_unless(&AtomicBool::new(false), options, requests, sampling)
}

pub fn ask_unless(
    interrupted: &AtomicBool,
    options: ServerOptions,
    requests: &[Request],
    sampling: &SamplingOptions,
) -> Outcome {
    let screen = Screen::default();
    let run = RunOptions::new(&screen, interrupted);
    let context = Context::new(Path::new(""), &run, false);
    let mut endpoint = Endpoint::new(options).unwrap();
    let mut answers = Vec::new();
    let mut generator = ServerGenerator { endpoint: &mut endpoint, task: "asking" };
    let result = generator.generate(requests, sampling, &context, &mut |answer| {
        answers.push(answer);
        Ok(())
    });
    assert!(!format!("{generator:?}").contains(KEY));
    let (events, spent) = (screen.0.into_inner().unwrap(), endpoint.spent());
    assert!(!events.concat().contains(KEY), "{events:?}");
    Outcome { result, answers, events, spent }
}

/// One chat prompt.
pub fn ask(server: &Server) -> Outcome {
    ask_with(options(server), &[chat("Hello")], &drawn())
}

/// One event of a chat in pieces.
pub fn event(text: &str, finish_reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish_reason});
    format!("data: {}\n\n", json!({"choices": [choice]}))
}
