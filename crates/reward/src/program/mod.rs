//! `program:COMMAND`: an external program that is started once and kept running.
//!
//! It reads one line of JSON for each completion, `{"id", "prompt", "completion", "row"}`, where `row` is the prompt's
//! row with all its columns, and writes one for each, `{"reward"}`. With the same `id` beside the reward the answers may
//! come in any order; without, they come in that of the questions. Where it ends or falls silent it is started anew and
//! asked once more for what it has not answered. No shell reads the command.

mod answer;
mod error;
mod process;

use std::path::PathBuf;
use std::time::Duration;

use collimate_run::Context;
use serde_json::json;

use self::answer::Answer;
pub use self::error::ProgramError;
use self::process::{Heard, Process};
use crate::{Error, Item, Result, Reward};

/// An external program as a reward.
pub struct Program {
    command: Vec<String>,
    timeout: Duration,
    process: Option<Process>,
    /// Completions that it was asked about before this call; no two have the same `id`.
    asked: u64,
}

impl Program {
    /// The program of this command line, of which each answer may take so long. It is started when it is first asked.
    ///
    /// # Errors
    /// [`Error::Unusable`] for a command line that is empty or leaves a quotation mark open.
    pub fn new(command: &str, timeout: Duration) -> Result<Self> {
        let unusable = |reason: String| Error::Unusable { spec: format!("program:{command}"), reason };
        let words = shell_words::split(command).map_err(|error| unusable(error.to_string()))?;
        if words.is_empty() {
            return Err(unusable("no program is named".to_owned()));
        }
        Ok(Self { command: words, timeout, process: None, asked: 0 })
    }

    /// The files that a command line names: the program and its arguments as far as they are files.
    pub fn files(command: &str) -> Vec<PathBuf> {
        let words = shell_words::split(command).unwrap_or_default();
        words.into_iter().map(PathBuf::from).filter(|path| path.is_file()).collect()
    }

    fn ask(&mut self, items: &[Item<'_>], context: &Context) -> Result<Vec<f64>> {
        let mut round = Round { items, first_id: self.asked, rewards: vec![None; items.len()], next: 0 };
        self.asked += items.len() as u64;
        let mut blamed = None;
        while let Some(end) = self.attempt(&mut round, context)? {
            self.process = None;
            // Everything before it is answered: it is what the program ended or hangs on.
            let first = round.first_open();
            if first.is_some() && first == blamed {
                return Err(end.into());
            }
            blamed = first;
        }
        Ok(round.rewards.into_iter().flatten().collect())
    }

    /// Asks for all that is open; returns what stopped the program before it had answered everything.
    fn attempt(&mut self, round: &mut Round<'_>, context: &Context) -> Result<Option<ProgramError>> {
        let Some(mut first) = round.first_open() else { return Ok(None) };
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start(&self.command)?),
        };
        if let Some(line) = process.line_at_hand() {
            return Err(process.noise(round.row(first), &line, "nothing was asked").into());
        }
        for index in (first..round.items.len()).filter(|index| round.rewards[*index].is_none()) {
            process.send(round.question(index));
        }
        loop {
            match process.next(self.timeout, context)? {
                Heard::Line(line) => round.take(&line, process)?,
                Heard::End(status) => return Ok(Some(process.ended(round.row(first), &status))),
                Heard::Silence => return Ok(Some(process.silent(round.row(first), self.timeout))),
            }
            match round.first_open() {
                Some(open) => first = open,
                None => return Ok(None),
            }
        }
    }
}

impl Reward for Program {
    fn name(&self) -> &str {
        "program"
    }

    fn score(&mut self, items: &[Item<'_>], context: &Context) -> Result<Vec<f64>> {
        let rewards = self.ask(items, context);
        if rewards.is_err() {
            // What it may still answer belongs to no later question.
            self.process = None;
        }
        rewards
    }
}

/// Questions, and the answers so far.
struct Round<'a> {
    items: &'a [Item<'a>],
    first_id: u64,
    rewards: Vec<Option<f64>>,
    /// All before it are answered.
    next: usize,
}

impl Round<'_> {
    /// The first question without an answer.
    fn first_open(&mut self) -> Option<usize> {
        let answered = self.rewards[self.next..].iter().take_while(|reward| reward.is_some()).count();
        self.next += answered;
        (self.next < self.rewards.len()).then_some(self.next)
    }

    fn row(&self, index: usize) -> u64 {
        self.items[index].row
    }

    fn question(&self, index: usize) -> Vec<u8> {
        let Item { prompt, completion, fields, .. } = self.items[index];
        let id = self.first_id + index as u64;
        let question = json!({ "id": id, "prompt": prompt, "completion": completion, "row": fields });
        format!("{question}\n").into_bytes()
    }

    /// Keeps the answer in a line.
    fn take(&mut self, line: &[u8], process: &Process) -> Result<(), ProgramError> {
        let first = self.next;
        let noise = |reason: &str| process.noise(self.items[first].row, line, reason);
        let Some(Answer { id, reward }) = answer::read(line).map_err(noise)? else { return Ok(()) };
        let index = match id {
            Some(id) => id.checked_sub(self.first_id).and_then(|index| usize::try_from(index).ok()),
            None => Some(first),
        };
        let open = index.filter(|index| self.rewards.get(*index).is_some_and(Option::is_none));
        let open = open.ok_or_else(|| noise("its id is of no question, or was answered before"))?;
        self.rewards[open] = Some(reward.map_err(|value| process.no_number(self.items[open].row, value))?);
        Ok(())
    }
}
