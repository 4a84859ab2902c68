//! Runs the program in a folder of its own.

pub mod judge;
pub mod recipe;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

/// A folder to run the program in.
pub struct Room {
    folder: TempDir,
}

/// What the program said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Room {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        collimate_run::atomic::write(path, text.as_bytes()).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `collimate` with words that are parted by spaces.
    pub fn run(&self, words: &str) -> Said {
        self.run_with(words, &[])
    }

    /// The same, with variables of the environment set.
    pub fn run_with(&self, words: &str, variables: &[(&str, &str)]) -> Said {
        Self::said(self.command(words).envs(variables.iter().copied()))
    }

    /// The same, with a text on standard input.
    pub fn run_on(&self, words: &str, input: &str) -> Said {
        Self::said(self.command(words).write_stdin(input))
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::cargo_bin("collimate").unwrap();
        command.current_dir(self.folder.path()).args(words.split_whitespace());
        // Whose tests these are may have a key of their own.
        command.env_remove("OPENAI_API_KEY");
        command
    }

    fn said(command: &mut Command) -> Said {
        let output = command.output().unwrap();
        Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The folder of a tiny random model.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama")
}

/// Instructions with the usual faults: one empty, one said twice, one input that says that it is none.
pub const INSTRUCTIONS: &str = r#"[
{"instruction": "Name a colour.", "input": "<noinput>", "output": "Blue."},
{"instruction": "Add the numbers.", "input": "2 and 3", "output": "5"},
{"instruction": "Name a colour.", "input": "", "output": "Blue."},
{"instruction": "", "input": "", "output": "Nothing was asked."},
{"instruction": "Write a rhyme on snow and winter.", "input": "", "output": "The snow fell low, the wind did blow."}
]"#;
