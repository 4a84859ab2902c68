//! A conversation as its caller sees it: pieces, turns, an answer that is stopped.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::{config, fixtures};
use collimate_run::{Context, Event, Reporter, RunOptions, Silent};
use collimate_stages::chat::{Chat, Config, Reply};

fn open(words: &[&str]) -> Chat {
    let model = fixtures().join("tiny/llama");
    let words = [&["--model_name_or_path", model.to_str().unwrap()], words].concat();
    let calm = AtomicBool::new(false);
    let options = RunOptions::new(&Silent, &calm);
    Chat::open(config::<Config>(&words), Some(2), None, &Context::new(Path::new(""), &options, false))
        .unwrap()
}

/// Wants to stop after so many reports of progress.
struct StopAfter<'a>(AtomicUsize, &'a AtomicBool);

impl Reporter for StopAfter<'_> {
    fn report(&self, event: Event<'_>) {
        if let Event::Advanced { .. } = event
            && self.0.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn the_pieces_are_the_answer() {
    let mut chat = open(&["--max_new_tokens", "12"]);
    let calm = AtomicBool::new(false);
    let options = RunOptions::new(&Silent, &calm);
    let context = Context::new(Path::new(""), &options, false);
    for message in ["Boil the egg.", "And now?"] {
        let mut pieces = String::new();
        let turn = chat.answer(message, &context, &mut |piece| pieces.push_str(piece)).unwrap();
        assert_eq!((pieces, turn.forgotten), (turn.content, 0));
    }
}

#[test]
fn a_stopped_answer_is_no_end() {
    let mut chat = open(&["--max_new_tokens", "60"]);
    let stop = AtomicBool::new(false);
    let reporter = StopAfter(AtomicUsize::new(5), &stop);
    let options = RunOptions::new(&reporter, &stop);
    let context = Context::new(Path::new(""), &options, false);
    let mut pieces = String::new();
    let turn = chat.answer("Boil the egg.", &context, &mut |piece| pieces.push_str(piece)).unwrap();
    assert_eq!((turn.finish_reason, turn.content), (None, pieces));
    stop.store(false, Ordering::Relaxed);
    assert!(chat.answer("Boil the egg.", &context, &mut |_| {}).unwrap().finish_reason.is_some());
}

#[test]
fn a_message_that_is_refused_costs_no_history() {
    let calm = AtomicBool::new(false);
    let options = RunOptions::new(&Silent, &calm);
    let context = Context::new(Path::new(""), &options, false);
    let words = ["--max_new_tokens", "12"];
    let (mut chat, mut other) = (open(&words), open(&words));
    for message in ["Boil the egg.", "And now?"] {
        let turn = chat.answer(message, &context, &mut |_| {}).unwrap();
        assert_eq!(other.answer(message, &context, &mut |_| {}).unwrap(), turn);
    }
    let error = chat.answer(&"egg ".repeat(600), &context, &mut |_| {}).unwrap_err().to_string();
    assert!(error.ends_with("leaves no room for an answer"), "{error}");
    let expected = other.answer("Fry it.", &context, &mut |_| {}).unwrap();
    assert_eq!(chat.answer("Fry it.", &context, &mut |_| {}).unwrap(), expected);
    let alone = open(&words).answer("Fry it.", &context, &mut |_| {}).unwrap();
    assert_ne!(expected.content, alone.content, "the history changes nothing");
    // A turn that no longer fits goes with the answer that it makes room for.
    let long = "egg ".repeat(140);
    let turn = chat.answer(&long, &context, &mut |_| {}).unwrap();
    assert!(turn.forgotten > 0);
    assert_eq!(other.answer(&long, &context, &mut |_| {}).unwrap(), turn);
    assert_eq!(
        chat.answer("And?", &context, &mut |_| {}).unwrap(),
        other.answer("And?", &context, &mut |_| {}).unwrap()
    );
}

#[test]
fn a_message_may_hold_a_slash_and_a_command_space() {
    let mut chat = open(&[]);
    assert_eq!(chat.command("either/or"), None);
    assert_eq!(chat.command("  /quit  "), Some(Reply::Quit));
    assert_eq!(
        chat.command("/system  Be brief. "),
        Some(Reply::Note("the model is told this beforehand".into()))
    );
}
