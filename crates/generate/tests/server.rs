//! The generator on a server: what is asked and what comes back, whole or in pieces.

use std::time::Duration;

use crate::asking::{KEY, ask, ask_with, chat, drawn, event, options};
use crate::scripted::{Reply, Seen, Server};
use collimate_generate::{
    Answer, Constraint, FinishReason, Prompt, Request, SamplingOptions, ServerError, ServerOptions, Usage,
};
use miette::Diagnostic;
use serde_json::{Value, json};

#[test]
fn a_chat_is_asked_for_with_the_key_and_answered() {
    let server = Server::replies(vec![Reply::chat(&["Lisbon", "Lisbon."])]);
    let request = Request { samples: vec![3, 5], ..chat("Capital of Portugal?") };
    let outcome = ask_with(options(&server), &[request], &drawn());
    outcome.result.as_ref().unwrap();
    assert_eq!(outcome.texts(), ["Lisbon", "Lisbon."]);
    assert!(matches!(outcome.answers[1], Answer::Sample { request: 0, number: 5, .. }));
    assert_eq!(outcome.spent, 23);
    // What the call took is told once.
    let usage = Usage { prompt_tokens: 10, completion_tokens: 13 };
    let told: Vec<_> = outcome.samples().into_iter().map(|sample| sample.usage).collect();
    assert_eq!(told, [Some(usage), None]);

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
fn half_a_text_that_a_filter_let_through_is_a_sample() {
    let choice = json!({"message": {"content": "Take a"}, "finish_reason": "content_filter"});
    let server = Server::replies(vec![Reply::json(200, "", &json!({"choices": [choice]}))]);
    let outcome = ask(&server);
    assert_eq!(outcome.samples()[0].finish_reason, FinishReason::ContentFilter);
    assert_eq!(outcome.texts(), ["Take a"]);
}

#[test]
fn a_constraint_that_a_server_refuses_is_spoken_of() {
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
