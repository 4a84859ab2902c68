//! A small stage through the whole program: settings, runner, exit codes.

use std::path::{Path, PathBuf};

use clap::Args;
use collimate_run::{Context, Error, Result, Stage, atomic};
use serde::Serialize;

use super::*;
use crate::commands::Action;

/// Write a text many times.
#[derive(Debug, Clone, Args, Serialize)]
struct Config {
    /// The text to write
    #[arg(long)]
    text: String,
    /// How many times
    #[arg(long, default_value_t = 2)]
    number_of_times: usize,
    /// The folder to fill
    #[arg(long)]
    #[serde(skip)]
    output: PathBuf,
}

struct Repeat(Config);

impl Stage for Repeat {
    const NAME: &'static str = "data_repeat";
    type Error = Error;
    type Summary = usize;

    fn settings(&self) -> serde_json::Value {
        serde_json::to_value(&self.0).unwrap()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn output(&self) -> &Path {
        &self.0.output
    }

    fn run(&self, context: &Context) -> Result<usize> {
        match self.0.text.as_str() {
            "stop" => return Err(Error::Interrupted),
            "panic" => panic!("this panic is a part of a test"),
            _ => {}
        }
        let text = self.0.text.repeat(self.0.number_of_times);
        atomic::write(context.output().join("text"), text.as_bytes())?;
        Ok(text.len())
    }
}

const ENTRIES: &[Entry] = &[Entry {
    path: "data repeat",
    arguments: Config::augment_args,
    examples: "  collimate data repeat --text abc --output out",
    action: Action::Stage(|session| session.stage(Repeat, |outcome| format!("{} bytes", outcome.summary))),
}];

/// Runs `collimate data repeat` into a folder of its own; the exit code and what was written.
fn repeat(words: &[&str]) -> (ExitCode, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let start = ["collimate", "data", "repeat", "--output", output.to_str().unwrap()];
    let words = start.iter().chain(words);
    let code = run(ENTRIES, words.map(OsString::from));
    (code, std::fs::read_to_string(output.join("text")).ok())
}

#[test]
fn a_stage_runs_with_its_settings() {
    assert_eq!(repeat(&["--text", "ab"]), (ExitCode::SUCCESS, Some("abab".to_owned())));
    let (code, text) = repeat(&["--text=ab", "--number_of_times=3", "--json"]);
    assert_eq!((code, text.as_deref()), (ExitCode::SUCCESS, Some("ababab")));
    let (code, text) = repeat(&["--set", "text=x", "--set", "number_of_times=1", "--quiet"]);
    assert_eq!((code, text.as_deref()), (ExitCode::SUCCESS, Some("x")));
}

#[test]
fn the_exit_code_tells_whose_turn_it_is() {
    let fixable = ExitCode::from(1);
    assert_eq!(repeat(&[]).0, fixable, "a required setting is missing");
    assert_eq!(repeat(&["--texd", "x"]).0, fixable, "an unknown flag");
    assert_eq!(repeat(&["--text", "x", "--set", "texd=x"]).0, fixable, "an unknown setting");
    assert_eq!(repeat(&["--text", "x", "--config", "absent.toml"]).0, fixable, "a missing file");
    assert_eq!(repeat(&["--text", "stop"]).0, ExitCode::from(130));
    assert_eq!(repeat(&["--text", "panic"]).0, ExitCode::from(2));
    assert_eq!(repeat(&["--help"]).0, ExitCode::SUCCESS);
}

#[test]
fn help_shows_defaults_required_settings_and_examples() {
    let mut tree = arguments::tree(ENTRIES);
    let refusal = tree.try_get_matches_from_mut(["collimate", "data", "repeat", "--help"]).unwrap_err();
    insta::assert_snapshot!(refusal.to_string());
}

#[test]
fn the_tree_is_sound() {
    arguments::tree(ENTRIES).debug_assert();
    arguments::tree(&crate::commands::all()).debug_assert();
}
