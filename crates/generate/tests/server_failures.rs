//! The generator on a server that fails: what is tried again, what one request is refused for, what ends the work.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::asking::{KEY, Outcome, ask, ask_with, chat, drawn, options};
use crate::scripted::{Reply, Seen, Server};
use collimate_generate::{Request, ServerError, ServerOptions};
use serde_json::{Value, json};

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
