//! The generator on a server with many calls: side by side, interrupted, within limits.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::asking::{Screen, ask_unless, ask_with, chat, drawn, event, of_server, options};
use crate::scripted::{Reply, Seen, Server};
use collimate_generate::{Endpoint, Error, Generator, Request, ServerError, ServerGenerator, ServerOptions};
use collimate_run::{Context, RunOptions};

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
    let screen = Screen::default();
    let run = RunOptions::new(&screen, &interrupted);
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
    let (screen, calm) = (Screen::default(), AtomicBool::new(false));
    let run = RunOptions::new(&screen, &calm);
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
fn limits_count_over_all_that_is_asked() {
    let server = Server::replies(vec![Reply::chat(&["0123456789"])]);
    let mut endpoint =
        Endpoint::new(ServerOptions { max_total_tokens: Some(50), ..options(&server) }).unwrap();
    let (screen, calm) = (Screen::default(), AtomicBool::new(false));
    let run = RunOptions::new(&screen, &calm);
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
