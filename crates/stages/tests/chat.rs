//! A conversation as its caller sees it: pieces, turns, an answer that is stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to fail")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use collimate_run::{Context, Event, Reporter, RunOptions, Silent};
use collimate_stages::chat::{Chat, Config, Reply};
use common::{config, fixtures};

fn open(words: &[&str]) -> Chat {
    let model = fixtures().join("tiny/llama");
    let words = [&["--model_name_or_path", model.to_str().unwrap()], words].concat();
    let calm = AtomicBool::new(false);
    let options = RunOptions { force: false, reporter: &Silent, interrupted: &calm };
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
    let options = RunOptions { force: false, reporter: &Silent, interrupted: &calm };
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
    let options = RunOptions { force: false, reporter: &reporter, interrupted: &stop };
    let context = Context::new(Path::new(""), &options, false);
    let mut pieces = String::new();
    let turn = chat.answer("Boil the egg.", &context, &mut |piece| pieces.push_str(piece)).unwrap();
    assert_eq!((turn.finish_reason, turn.content), (None, pieces));
    stop.store(false, Ordering::Relaxed);
    assert!(chat.answer("Boil the egg.", &context, &mut |_| {}).unwrap().finish_reason.is_some());
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
