//! The generator on a server: what is asked, what comes back, and every way in which a server fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up is to fail")]

mod scripted;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use collimate_generate::{
    Answer, Endpoint, Error, FinishReason, Generator, Prompt, Request, Result, Sample, SamplingOptions,
    ServerError, ServerGenerator, ServerOptions,
};
use collimate_run::{Context, Event, Reporter, RunOptions};
use miette::Diagnostic;
use scripted::{Reply, Seen, Server};
use serde_json::{Value, json};

const KEY: &str = "sk-secret-of-the-test";

/// Keeps what a person would see.
#[derive(Default)]
struct Screen(Mutex<Vec<String>>);

impl Reporter for Screen {
    fn report(&self, event: Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// What became of some requests.
struct Outcome {
    result: Result<()>,
    answers: Vec<Answer>,
    events: Vec<String>,
    spent: u64,
}

impl Outcome {
    fn samples(&self) -> Vec<&Sample> {
        let samples = self.answers.iter().filter_map(|answer| match answer {
            Answer::Sample { sample, .. } => Some(sample),
            _ => None,
        });
        samples.collect()
    }

    fn texts(&self) -> Vec<&str> {
        self.samples().into_iter().map(|sample| sample.text.as_str()).collect()
    }

    fn pieces(&self) -> Vec<&str> {
        let pieces = self.answers.iter().filter_map(|answer| match answer {
            Answer::Piece { text, .. } => Some(text.as_str()),
            _ => None,
        });
        pieces.collect()
    }

    /// What was refused, if nothing else went wrong.
    fn refusals(&self) -> Vec<&ServerError> {
        self.result.as_ref().unwrap();
        let errors = self.answers.iter().filter_map(|answer| match answer {
            Answer::Refused { error, .. } => Some(of_server(error)),
            _ => None,
        });
        errors.collect()
    }

    fn refusal(&self) -> &ServerError {
        let refusals = self.refusals();
        assert_eq!(refusals.len(), 1, "{:?}", self.answers);
        refusals[0]
    }

    fn error(&self) -> &ServerError {
        of_server(self.result.as_ref().unwrap_err())
    }
}

fn of_server(error: &Error) -> &ServerError {
    assert!(!format!("{error} {error:?} {}", error.help().unwrap()).contains(KEY), "{error:?}");
    match error {
        Error::Server(error) => error,
        other => panic!("{other:?}"),
    }
}

/// A server that is not waited for long.
fn options(server: &Server) -> ServerOptions {
    ServerOptions {
        api_key: Some(KEY.to_owned().into()),
        timeout: Duration::from_secs(5),
        max_retries: 2,
        backoff: Duration::from_millis(2),
        ..ServerOptions::new(&server.base_url, "base")
    }
}

fn chat(text: &str) -> Request {
    Request::new(Prompt::Chat(vec![json!({"role": "user", "content": text})]), 1)
}

fn drawn() -> SamplingOptions {
    SamplingOptions { do_sample: true, max_new_tokens: 20, ..SamplingOptions::default() }
}

fn ask_with(options: ServerOptions, requests: &[Request], sampling: &SamplingOptions) -> Outcome {
    ask_unless(&AtomicBool::new(false), options, requests, sampling)
}

fn ask_unless(
    interrupted: &AtomicBool,
    options: ServerOptions,
    requests: &[Request],
    sampling: &SamplingOptions,
) -> Outcome {
    let screen = Screen::default();
    let run = RunOptions { force: false, reporter: &screen, interrupted };
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
fn ask(server: &Server) -> Outcome {
    ask_with(options(server), &[chat("Hello")], &drawn())
}

/// How the only prompt fares after a bad first reply.
fn recovers(bad: Reply) {
    let server = Server::replies(vec![bad, Reply::chat(&["fine"])]);
    let outcome = ask(&server);
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.texts(), ["fine"]);
    assert_eq!(server.seen().len(), 2);
    assert_eq!(server.seen()[0].body, server.seen()[1].body);
}

/// Why the only prompt is given up if every reply is bad.
fn gives_up(bad: Reply) -> String {
    let server = Server::replies(vec![bad]);
    let outcome = ask(&server);
    match outcome.refusal() {
        ServerError::GaveUp { number: 1, attempts: 3, reason } => {
            assert_eq!(server.seen().len(), 3);
            reason.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chat_is_asked_for_with_the_key_and_answered() {
    let server = Server::replies(vec![Reply::chat(&["Lisbon", "Lisbon."])]);
    let request = Request { samples: vec![3, 5], ..chat("Capital of Portugal?") };
    let outcome = ask_with(options(&server), &[request], &drawn());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.texts(), ["Lisbon", "Lisbon."]);
    assert!(matches!(outcome.answers[1], Answer::Sample { request: 0, number: 5, .. }));
    assert_eq!(outcome.spent, 23);

    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v1/chat/completions HTTP/1.1");
    assert!(seen.headers.contains(&format!("authorization: Bearer {KEY}")), "{:?}", seen.headers);
    assert_eq!((&seen.body["n"], &seen.body["model"]), (&json!(2), &json!("base")));
    assert!(outcome.events[0].starts_with("Started") && outcome.events[0].contains("total: Some(2)"));
    assert!(outcome.events[2].starts_with("Advanced { done: 2"), "{:?}", outcome.events);
    assert_eq!(outcome.events[3], "Finished");
}

#[test]
fn texts_and_tokens_are_completed_with_log_probs() {
    let logprobs = json!({
        "tokens": ["Lis", "bon"], "token_logprobs": [-0.25, -1.5], "text_offset": [0, 3],
        "top_logprobs": [{"Por": -2.0, "Lis": -0.25, "A": -3.0}, null],
    });
    let choice = json!({"index": 0, "text": "Lisbon", "finish_reason": "length", "logprobs": logprobs});
    let server = Server::replies(vec![Reply::json(200, "", &json!({"choices": [choice]}))]);
    let prompts = [Prompt::Text("The capital is".to_owned()), Prompt::Tokens(vec![1, 7])];
    let requests = prompts.map(|prompt| Request::new(prompt, 0));
    let outcome = ask_with(options(&server), &requests, &SamplingOptions { logprobs: Some(2), ..drawn() });
    for sample in outcome.samples() {
        assert_eq!(sample.finish_reason, FinishReason::Length);
        let found = serde_json::to_value(&sample.logprobs).unwrap();
        let top = json!([{"token": "Lis", "logprob": -0.25}, {"token": "Por", "logprob": -2.0}]);
        let first = json!({"token": "Lis", "logprob": -0.25, "top_logprobs": top});
        assert_eq!(found, json!([first, {"token": "bon", "logprob": -1.5, "top_logprobs": []}]));
    }
    let mut asked: Vec<Value> = server.seen().into_iter().map(|seen| seen.body["prompt"].clone()).collect();
    asked.sort_by_key(Value::is_array);
    assert_eq!(asked, [json!("The capital is"), json!([1, 7])]);
    assert!(server.seen().iter().all(|seen| seen.line.starts_with("POST /v1/completions ")));
}

#[test]
fn chats_come_with_log_probs() {
    let top = json!([{"token": "Yes", "logprob": -0.5, "bytes": [89]}, {"token": "No", "logprob": -1.0}]);
    let token = json!({"token": "Yes", "logprob": -0.5, "bytes": null, "top_logprobs": top});
    let choice = json!({
        "message": {"content": "Yes"}, "finish_reason": "stop",
        "logprobs": {"content": [token], "refusal": null},
    });
    let server = Server::replies(vec![Reply::json(200, "", &json!({"choices": [choice]}))]);
    let sampling = SamplingOptions { logprobs: Some(1), ..drawn() };
    let outcome = ask_with(options(&server), &[chat("Yes?")], &sampling);
    let logprobs = outcome.samples()[0].logprobs.clone().unwrap();
    assert_eq!((logprobs[0].token.as_str(), logprobs[0].logprob), ("Yes", -0.5));
    assert_eq!(logprobs[0].top_logprobs.len(), 1);
}

#[test]
fn what_may_pass_is_tried_again() {
    recovers(Reply::error(429, "retry-after: 0\r\n", "rate_limit_exceeded", "slow down"));
    recovers(Reply::error(
        429,
        "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "rate_limit_exceeded",
        "no",
    ));
    recovers(Reply::error(500, "", "server_error", "oops"));
    recovers(Reply::error(503, "", "server_error", KEY));
    recovers(Reply::error(408, "", "timeout", "slow"));
    recovers(Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"choices\": [{\"mess"));
    recovers(Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{\"choices\": "));
    recovers(Reply::raw(""));
    recovers(Reply::raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\"\xff\"".as_slice()));
    recovers(Reply::raw("what?\r\n\r\n"));
    recovers(Reply::raw("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html>Bad gateway</html>"));
    recovers(Reply::json(200, "", &json!({"answers": []})));
    recovers(Reply::json(200, "", &json!({"choices": []})));
    recovers(Reply::json(
        200,
        "",
        &json!({"choices": [{"message": {"content": "h"}, "finish_reason": null}]}),
    ));
}

#[test]
fn what_does_not_pass_is_given_up_with_the_last_reason() {
    let reason = gives_up(Reply::error(500, "", "server_error", "out of memory"));
    assert_eq!(reason, "the server answered with status 500: out of memory");
    assert_eq!(gives_up(Reply::json(200, "", &json!({"choices": []}))), "the answer held no finished text");
    let reason = gives_up(Reply::json(200, "", &json!({"error": {"message": "no workers"}})));
    assert_eq!(reason, "the server reported an error: no workers");
    let reason = gives_up(Reply::raw("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"choices\": ["));
    assert!(reason.starts_with("the answer could not be read (EOF"), "{reason}");
    let reason = gives_up(Reply::json(200, "", &json!({"choices": KEY})));
    assert!(reason.contains(r#"invalid type: string "[key]""#), "{reason}");
}

#[test]
fn the_wait_that_a_server_asks_for_is_kept_by_all_calls() {
    let script = |number: usize, _: &Seen| match number {
        0 => Reply::error(429, "retry-after: 1\r\n", "rate_limit_exceeded", "slow down"),
        _ => Reply::chat(&["fine"]),
    };
    let server = Server::start(script);
    let begun = Instant::now();
    let options = ServerOptions { concurrency: NonZeroUsize::MIN, ..options(&server) };
    let outcome = ask_with(options, &[chat("a"), chat("b")], &drawn());
    assert_eq!(outcome.texts(), ["fine", "fine"]);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let notes: Vec<_> = outcome.events.iter().filter(|event| event.starts_with("Note")).collect();
    assert_eq!(notes, [r#"Note("the server answered with status 429: slow down; trying again in 1.0 s")"#]);
}

/// Asks once, for a short time, and expects no answer in it.
fn is_late(base_url: &str, request: Request) -> Outcome {
    let options = ServerOptions {
        timeout: Duration::from_millis(100),
        max_retries: 1,
        backoff: Duration::from_millis(2),
        ..ServerOptions::new(base_url, "base")
    };
    let begun = Instant::now();
    let outcome = ask_with(options, &[request], &drawn());
    let error = outcome.refusal().to_string();
    assert_eq!(error, "no answer to prompt 1 after 2 attempts; at the last, there was no answer in time");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    outcome
}

#[test]
fn a_server_that_never_answers_or_is_too_slow_is_given_up() {
    let slow = Reply::raw("HTTP/1.1 200 OK\r\n").then_wait(Duration::from_secs(1));
    for reply in [Reply::hang(), slow.then_hang()] {
        for stream in [false, true] {
            let server = Server::replies(vec![reply.clone()]);
            let outcome = is_late(&server.base_url, Request { stream, ..chat("Hello") });
            // It may have worked for it: 20 tokens at most and a prompt, twice.
            assert!(outcome.spent >= 40, "{}", outcome.spent);
        }
    }
}

#[test]
fn a_server_that_does_not_read_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    for stream in [false, true] {
        // More than the system takes in for a program that does not.
        is_late(&base_url, Request { stream, ..chat(&"x".repeat(1 << 24)) });
    }
}

#[test]
fn comments_and_half_a_line_do_not_keep_a_stream_alive() {
    for bytes in [": still there\n\n", "data"] {
        let reply = Reply::events().then_for_ever(bytes, Duration::from_millis(10));
        is_late(&Server::replies(vec![reply]).base_url, Request { stream: true, ..chat("Hello") });
    }
}

#[test]
fn an_answer_beyond_all_measure_is_not_read() {
    let server = Server::replies(vec![Reply::chat(&[&"x".repeat(10_000)])]);
    let options = ServerOptions { max_response_bytes: 5000, max_retries: 0, ..options(&server) };
    let error = ask_with(options, &[chat("Hello")], &drawn()).refusal().to_string();
    assert!(error.ends_with("the answer was larger than 5000 bytes"), "{error}");
}

#[test]
fn nobody_there_ends_the_work() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let options = ServerOptions {
        backoff: Duration::from_millis(1),
        max_retries: 2,
        ..ServerOptions::new(&base_url, "base")
    };
    let outcome = ask_with(options, &[chat("Hello"), chat("there")], &drawn());
    assert!(matches!(outcome.error(), ServerError::Unreachable { .. }), "{:?}", outcome.result);
    assert!(outcome.answers.is_empty());
}

#[test]
fn a_key_is_not_sent_to_a_server_without_the_encryption_that_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("https://{}/v1", listener.local_addr().unwrap());
    let received = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Speak plainly\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        // It may hang up in whatever way it likes.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    });
    let api_key = Some(KEY.to_owned().into());
    let options = ServerOptions { api_key, max_retries: 0, ..ServerOptions::new(&base_url, "base") };
    let outcome = ask_with(options, &[chat("Hello")], &drawn());
    assert!(matches!(outcome.error(), ServerError::Unreachable { .. }), "{:?}", outcome.result);
    let bytes = received.join().unwrap();
    assert!(!bytes.is_empty() && !String::from_utf8_lossy(&bytes).contains(KEY));
}

#[test]
fn what_stands_in_the_way_of_all_ends_the_work_at_once() {
    let elsewhere = Server::replies(vec![Reply::chat(&["stolen"])]);
    let location = format!("location: {}/chat/completions?key=1\r\n", elsewhere.base_url);
    let repeated = format!("Incorrect API key provided: {KEY}");
    let replies = [
        (
            Reply::error(401, "", "invalid_api_key", &repeated),
            "the API key is not accepted (Incorrect API key provided: [key])",
        ),
        (
            Reply::error(403, "", "forbidden", "not your model"),
            "the API key is not accepted (not your model)",
        ),
        (
            Reply::error(404, "", "model_not_found", "no such model"),
            "does not know the model base: no such model",
        ),
        (
            Reply::error(429, "", "insufficient_quota", "pay first"),
            "the account at the server is used up: pay first",
        ),
        (Reply::json(307, &location, &json!({})), "/v1/chat/completions, and redirects are not followed"),
    ];
    for (reply, expected) in replies {
        let server = Server::replies(vec![reply]);
        let outcome = ask(&server);
        let error = outcome.error().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!((server.seen().len(), outcome.spent), (1, 0));
    }
    assert!(elsewhere.seen().is_empty());

    let server = Server::replies(vec![Reply::error(401, "", "", "")]);
    let options = ServerOptions { api_key: None, ..options(&server) };
    let error = ask_with(options, &[chat("Hello")], &drawn()).error().to_string();
    assert!(error.contains("the API key is missing (it does not say why)"), "{error}");
}

#[test]
fn a_request_that_is_forbidden_after_others_were_answered_is_refused_alone() {
    let script = |_: usize, seen: &Seen| match seen.prompt().as_str() {
        "bad" => Reply::error(403, "", "moderation", "flagged"),
        _ => Reply::chat(&["fine"]),
    };
    let server = Server::start(script);
    let options = ServerOptions { concurrency: NonZeroUsize::MIN, ..options(&server) };
    let outcome = ask_with(options, &["good", "bad", "good"].map(chat), &drawn());
    assert_eq!(outcome.refusal().to_string(), "the server refuses prompt 2 (status 403): flagged");
    assert_eq!(outcome.texts(), ["fine", "fine"]);
}

#[test]
fn what_is_under_way_comes_in_before_the_work_ends_for_all() {
    let script = |_: usize, seen: &Seen| match seen.prompt().as_str() {
        "fatal" => Reply::error(402, "", "", "pay first"),
        "failing" => Reply::wait(Duration::from_millis(100)).then_all(Reply::error(500, "", "", "oops")),
        "wrong" => Reply::wait(Duration::from_millis(150)).then_all(Reply::error(404, "", "", "gone")),
        _ => Reply::wait(Duration::from_millis(200)).then_all(Reply::chat(&["fine"])),
    };
    let server = Server::start(script);
    let requests = ["slow", "fatal", "failing", "wrong", "slow", "late"].map(chat);
    let options = ServerOptions { concurrency: NonZeroUsize::new(5).unwrap(), ..options(&server) };
    let outcome = ask_with(options, &requests, &drawn());
    assert!(matches!(outcome.error(), ServerError::Quota { .. }), "{:?}", outcome.result);
    assert_eq!((outcome.texts(), server.seen().len(), outcome.spent), (vec!["fine", "fine"], 5, 28));
    assert!(!outcome.events.iter().any(|event| event.starts_with("Note")), "{:?}", outcome.events);
}

#[test]
fn what_the_taker_returns_ends_the_work_at_once() {
    let script = |_: usize, seen: &Seen| match seen.prompt().as_str() {
        "hang" => Reply::hang(),
        _ => Reply::chat(&["fine"]),
    };
    let server = Server::start(script);
    let run = RunOptions { force: false, reporter: &Screen::default(), interrupted: &AtomicBool::new(false) };
    let context = Context::new(Path::new(""), &run, false);
    let mut endpoint = Endpoint::new(options(&server)).unwrap();
    let mut generator = ServerGenerator { endpoint: &mut endpoint, task: "asking" };
    let begun = Instant::now();
    let result = generator.generate(&["hang", "good"].map(chat), &drawn(), &context, &mut |_| {
        Err(Error::EmptyPrompt { number: 1 })
    });
    assert!(matches!(result, Err(Error::EmptyPrompt { .. })), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn what_stands_in_the_way_of_one_request_leaves_the_others_alone() {
    let said = |message: Value, finish_reason: &str| {
        Reply::json(200, "", &json!({"choices": [{"message": message, "finish_reason": finish_reason}]}))
    };
    let too_long = "This model's maximum context length is 8 tokens. ".repeat(99);
    let script = move |_: usize, seen: &Seen| match seen.prompt().as_str() {
        "long" => Reply::error(400, "", "context_length_exceeded", &too_long),
        "bad" => said(json!({"content": ""}), "content_filter"),
        "refused" => said(json!({"content": null, "refusal": "I can't."}), "stop"),
        "adapter" => Reply::error(404, "", "NotFoundError", "no such adapter"),
        _ => Reply::chat(&["fine"]),
    };
    let server = Server::start(script);
    let with_adapter = Request { adapter: Some("mine".to_owned()), ..chat("adapter") };
    let requests = [chat("long"), chat("good"), chat("bad"), chat("refused"), with_adapter, chat("good")];
    let outcome = ask_with(options(&server), &requests, &drawn());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.texts(), ["fine", "fine"]);
    let mut errors: Vec<String> = outcome.refusals().into_iter().map(ToString::to_string).collect();
    errors.sort();
    assert_eq!(errors.len(), 4);
    assert!(errors[0].contains("does not know the model mine: no such adapter"), "{}", errors[0]);
    assert_eq!(
        errors[1],
        "the server holds back its answer to prompt 3: its content filter let nothing through"
    );
    assert_eq!(errors[2], "the server holds back its answer to prompt 4: I can't.");
    assert!(errors[3].starts_with("the server refuses prompt 1 (status 400): This model's maximum"));
    assert!(errors[3].len() < 500, "{}", errors[3]);
}

#[test]
fn half_a_text_that_a_filter_let_through_is_a_sample() {
    let choice = json!({"message": {"content": "Take a"}, "finish_reason": "content_filter"});
    let server = Server::replies(vec![Reply::json(200, "", &json!({"choices": [choice]}))]);
    let outcome = ask(&server);
    assert_eq!(outcome.samples()[0].finish_reason, FinishReason::ContentFilter);
    assert_eq!(outcome.texts(), ["Take a"]);
}

#[test]
fn a_constraint_that_a_server_refuses_is_spoken_of() {
    use collimate_generate::Constraint;
    let server = Server::replies(vec![Reply::error(400, "", "invalid_request_error", "unknown field")]);
    for (constraint, expected) in [
        (Constraint::Regex("a+".to_owned()), "structured_outputs"),
        (Constraint::Json(json!({})), "json_schema"),
    ] {
        let sampling = SamplingOptions { constraint: Some(constraint), ..drawn() };
        let outcome = ask_with(options(&server), &[chat("Hello")], &sampling);
        let help = outcome.refusal().help().unwrap().to_string();
        assert!(help.contains(expected), "{help}");
    }
}

#[test]
fn answers_of_a_server_that_passes_over_the_form_are_refused() {
    use collimate_generate::Constraint;
    let server = Server::replies(vec![Reply::chat(&["yes", "Well, yes"])]);
    let constraint = Some(Constraint::Choice(vec!["yes".to_owned(), "no".to_owned()]));
    let request = Request { samples: vec![0, 1], ..chat("Hello") };
    let outcome = ask_with(options(&server), &[request], &SamplingOptions { constraint, ..drawn() });
    assert_eq!(outcome.texts(), ["yes"]);
    let expected = "the answer to prompt 1 does not have the form that was asked for: \
                    \"Well, yes\" is none of the choices";
    assert_eq!(outcome.refusal().to_string(), expected);
}

#[test]
fn samples_that_did_not_come_are_asked_for_again() {
    let script = |number: usize, _: &Seen| Reply::chat(&[["one", "two", "three"][number]]);
    let server = Server::start(script);
    let request = Request { samples: vec![7, 8, 9], ..chat("Hello") };
    let outcome = ask_with(ServerOptions { max_retries: 0, ..options(&server) }, &[request], &drawn());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.texts(), ["one", "two", "three"]);
    let asked: Vec<Value> = server.seen().into_iter().map(|seen| seen.body["n"].clone()).collect();
    assert_eq!(asked, [json!(3), json!(2), json!(1)]);
    let seeds: std::collections::BTreeSet<String> =
        server.seen().into_iter().map(|seen| seen.body["seed"].to_string()).collect();
    assert_eq!(seeds.len(), 3);
}

#[test]
fn calls_are_under_way_at_once() {
    let all = Arc::new(Barrier::new(4));
    let server = Server::start(move |_, _| {
        all.wait();
        Reply::chat(&["fine"])
    });
    let options = ServerOptions { concurrency: NonZeroUsize::new(4).unwrap(), ..options(&server) };
    let requests: Vec<Request> = (0..8).map(|index| chat(&index.to_string())).collect();
    assert_eq!(ask_with(options, &requests, &drawn()).texts().len(), 8);
}

#[test]
fn neither_order_nor_company_nor_failures_change_what_is_asked() {
    let steady = |_: usize, seen: &Seen| Reply::chat(&[&format!("{} {}", seen.prompt(), seen.body["seed"])]);
    let shaky = move |number: usize, seen: &Seen| match number % 3 {
        0 => Reply::error(500, "", "server_error", "oops"),
        _ => steady(number, seen),
    };
    let requests: Vec<Request> =
        (0..9).map(|key| Request { key, ..chat(&format!("prompt {key}")) }).collect();
    let texts = |server: &Server, requests: &[Request], concurrency: usize| {
        let concurrency = NonZeroUsize::new(concurrency).unwrap();
        let options = ServerOptions { concurrency, max_retries: 20, ..options(server) };
        let outcome = ask_with(options, requests, &drawn());
        outcome.result.as_ref().unwrap();
        // However much fails, it is not spoken of all the time.
        assert!(outcome.events.iter().filter(|event| event.starts_with("Note")).count() < 2);
        let mut texts: Vec<String> = outcome.texts().into_iter().map(str::to_owned).collect();
        texts.sort();
        texts
    };
    let expected = texts(&Server::start(steady), &requests, 1);
    let reversed: Vec<Request> = requests.iter().rev().cloned().collect();
    assert_eq!(texts(&Server::start(shaky), &reversed, 4), expected);
    assert_eq!(texts(&Server::start(steady), &requests[3..4], 4), expected[3..4]);
}

#[test]
fn an_interruption_is_noticed_while_calls_hang_or_rest() {
    let failing = Reply::error(500, "retry-after: 60\r\n", "server_error", "oops");
    let talking = Reply::events().then(event("Once", None)).then_hang();
    for (reply, stream) in [(Reply::hang(), false), (failing, false), (talking, true)] {
        let server = Server::replies(vec![reply]);
        let request = Request { stream, ..chat("Hello") };
        let interrupted = AtomicBool::new(false);
        let begun = Instant::now();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                interrupted.store(true, Ordering::Relaxed);
            });
            ask_unless(&interrupted, options(&server), &[request], &drawn())
        });
        assert!(matches!(outcome.result, Err(Error::Run(collimate_run::Error::Interrupted))));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}

#[test]
fn what_has_arrived_is_handed_over_before_an_interruption_ends_the_work() {
    let all = Arc::new(Barrier::new(3));
    let server = Server::start(move |_, _| {
        all.wait();
        Reply::chat(&["fine"])
    });
    let interrupted = AtomicBool::new(false);
    let run = RunOptions { force: false, reporter: &Screen::default(), interrupted: &interrupted };
    let context = Context::new(Path::new(""), &run, false);
    let mut endpoint = Endpoint::new(options(&server)).unwrap();
    let mut generator = ServerGenerator { endpoint: &mut endpoint, task: "asking" };
    let mut samples = 0;
    let requests = ["a", "b", "c"].map(chat);
    let result = generator.generate(&requests, &drawn(), &context, &mut |_| {
        samples += 1;
        // The others come in while the first is taken.
        std::thread::sleep(Duration::from_millis(200));
        interrupted.store(true, Ordering::Relaxed);
        Ok(())
    });
    assert!(matches!(result, Err(Error::Run(collimate_run::Error::Interrupted))), "{result:?}");
    assert_eq!((samples, endpoint.spent()), (3, 42));
}

#[test]
fn limits_count_over_all_that_is_asked() {
    let server = Server::replies(vec![Reply::chat(&["0123456789"])]);
    let mut endpoint =
        Endpoint::new(ServerOptions { max_total_tokens: Some(50), ..options(&server) }).unwrap();
    let run = RunOptions { force: false, reporter: &Screen::default(), interrupted: &AtomicBool::new(false) };
    let context = Context::new(Path::new(""), &run, false);
    let mut ask = || {
        let mut generator = ServerGenerator { endpoint: &mut endpoint, task: "asking" };
        generator.generate_all(&[chat("Hello")], &drawn(), &context)
    };
    ask().unwrap();
    let error = ask().unwrap_err();
    assert!(matches!(of_server(&error), ServerError::SpendingCap { spent: 20, .. }), "{error:?}");
}

#[test]
fn the_spending_cap_is_never_passed_and_keeps_what_was_answered() {
    let server = Server::replies(vec![Reply::chat(&["0123456789"])]);
    let requests: Vec<Request> = (0..20).map(|index| chat(&format!("prompt {index}"))).collect();
    let options = ServerOptions { max_total_tokens: Some(105), ..options(&server) };
    let outcome = ask_with(options, &requests, &drawn());
    // Each call takes 20 tokens, and may take 20 and its prompt.
    assert_eq!((outcome.texts().len(), outcome.spent, server.seen().len()), (4, 80, 4));
    assert!(
        matches!(outcome.error(), ServerError::SpendingCap { cap: 105, spent: 80, next: 26..=40 }),
        "{:?}",
        outcome.result
    );
}

#[test]
fn the_rate_limit_is_kept() {
    let server = Server::replies(vec![Reply::chat(&["fine"])]);
    let requests: Vec<Request> = (0..14).map(|index| chat(&index.to_string())).collect();
    let options = ServerOptions { requests_per_minute: NonZeroU32::new(600), ..options(&server) };
    let begun = Instant::now();
    assert_eq!(ask_with(options, &requests, &drawn()).texts().len(), 14);
    // Ten at once, and then ten a second.
    assert!(begun.elapsed() >= Duration::from_millis(390), "{:?}", begun.elapsed());
}

/// One event of a chat in pieces.
fn event(text: &str, finish_reason: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish_reason});
    format!("data: {}\n\n", json!({"choices": [choice]}))
}

#[test]
fn a_text_comes_in_pieces_wherever_the_network_cuts_it() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 3}});
    let whole = event("", None)
        + &event("Olá, ", None)
        + ": still there\n\n"
        + &event("日本", None)
        + &event("!", Some("stop"))
        + &format!("data: {usage}\n\ndata: [DONE]\n\n");
    let bytes = whole.as_bytes();
    let inside = |text: &str| whole.find(text).unwrap() + 1;
    let (accent, line) = (inside("á"), inside("!"));
    let reply = Reply::events()
        .then(&bytes[..accent])
        .then_wait(Duration::from_millis(20))
        .then(&bytes[accent..line])
        .then_wait(Duration::from_millis(20))
        .then(&bytes[line..]);
    let server = Server::replies(vec![reply]);
    let request = Request { stream: true, ..chat("Hello") };
    let outcome = ask_with(options(&server), &[request], &drawn());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.pieces(), ["Olá, ", "日本", "!"]);
    assert_eq!(outcome.texts(), ["Olá, 日本!"]);
    assert_eq!(outcome.samples()[0].finish_reason, FinishReason::Stop);
    assert_eq!(outcome.spent, 7);
    assert_eq!(server.seen()[0].body["stream"], json!(true));
}

#[test]
fn pieces_that_break_off_are_not_told_twice() {
    let request = [Request { stream: true, ..chat("Hello") }];
    let broken = Reply::events().then(event("Once", None)).then("data: {\"choi");
    let server = Server::replies(vec![broken]);
    let outcome = ask_with(options(&server), &request, &drawn());
    assert_eq!((outcome.pieces(), server.seen().len()), (vec!["Once"], 1));
    assert!(matches!(outcome.refusal(), ServerError::BrokenOff { number: 1, .. }));

    let silent = Server::replies(vec![Reply::events().then(event("Once", None)).then_hang()]);
    let impatient = ServerOptions { timeout: Duration::from_millis(100), ..options(&silent) };
    let outcome = ask_with(impatient, &request, &drawn());
    let error = outcome.refusal().to_string();
    assert!(error.ends_with("broke off while it was written: there was no answer in time"), "{error}");

    let failed = Reply::events().then("data: {\"error\": {\"message\": \"engine died\"}}\n\n");
    let fine = Reply::events().then(event("Once", Some("length")));
    let server = Server::replies(vec![Reply::events(), failed, fine]);
    let outcome = ask_with(options(&server), &request, &drawn());
    assert_eq!((outcome.texts(), server.seen().len()), (vec!["Once"], 3));
    assert_eq!(outcome.samples()[0].finish_reason, FinishReason::Length);
}
