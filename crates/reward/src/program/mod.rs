//! `program:COMMAND`: an external program that is started once and kept running.
//!
//! It reads one line of JSON for each completion, `{"id", "prompt", "completion", "row"}`, where `row` is the prompt's
//! row with all its columns, and writes one for each, `{"reward"}`. With the same `id` beside the reward it is asked much
//! at once, and the answers may come in any order. Without, only the order tells whose they are, so it is asked one
//! thing after another; so is any program before its first answer. Blank lines are passed over. Where it ends or falls
//! silent it is started anew and asked once more for what it has not answered. No shell reads the command.

mod answer;
mod error;
mod process;

use std::path::{Path, PathBuf};
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
    /// Whether its answers have ids.
    has_ids: bool,
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
        Ok(Self { command: words, timeout, process: None, asked: 0, has_ids: false })
    }

    /// The files that a command line names: the program and its arguments as far as they are files, and the words
    /// within an argument, as in `sh -c 'python3 reward.py'`. What they read in their turn is not known here.
    pub fn files(command: &str) -> Vec<PathBuf> {
        let words = |text: &str| shell_words::split(text).unwrap_or_default();
        let named = |word: String| if Path::new(&word).is_file() { vec![word] } else { words(&word) };
        let files = words(command).into_iter().flat_map(named).map(PathBuf::from);
        files.filter(|path| path.is_file()).collect()
    }

    fn ask(&mut self, items: &[Item<'_>], context: &Context) -> Result<Vec<f64>> {
        let mut round =
            Round { items, first_id: self.asked, rewards: vec![None; items.len()], next: 0, asked: 0 };
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
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start(&self.command)?),
        };
        let mut unsent = round.open().into_iter();
        while let Some(first) = round.first_open() {
            if !self.has_ids
                && let Some(line) = process.line_at_hand()
            {
                return Err(process.noise(round.row(first), &line, "nothing was asked").into());
            }
            let together = if self.has_ids { usize::MAX } else { 1 };
            for index in unsent.by_ref().take(together) {
                process.send(round.question(index));
            }
            match process.next(self.timeout, context)? {
                Heard::Line(line) => self.has_ids = round.take(&line, self.has_ids, process)?,
                Heard::End(status) => return Ok(Some(process.ended(round.row(first), &status))),
                Heard::Silence => return Ok(Some(process.silent(round.row(first), self.timeout))),
            }
        }
        Ok(None)
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
    /// None from it on was asked.
    asked: usize,
}

impl Round<'_> {
    /// The first question without an answer.
    fn first_open(&mut self) -> Option<usize> {
        let answered = self.rewards[self.next..].iter().take_while(|reward| reward.is_some()).count();
        self.next += answered;
        (self.next < self.rewards.len()).then_some(self.next)
    }

    /// All questions without an answer.
    fn open(&self) -> Vec<usize> {
        (self.next..self.rewards.len()).filter(|index| self.rewards[*index].is_none()).collect()
    }

    fn row(&self, index: usize) -> u64 {
        self.items[index].row
    }

    fn question(&mut self, index: usize) -> Vec<u8> {
        self.asked = self.asked.max(index + 1);
        let Item { prompt, completion, fields, .. } = self.items[index];
        let id = self.first_id + index as u64;
        let question = json!({ "id": id, "prompt": prompt, "completion": completion, "row": fields });
        format!("{question}\n").into_bytes()
    }

    /// Keeps the answer in a line, of a program whose answers have ids or not so far; returns whether this one has.
    fn take(&mut self, line: &[u8], has_ids: bool, process: &Process) -> Result<bool, ProgramError> {
        let first = self.next;
        let noise = |reason: &str| process.noise(self.items[first].row, line, reason);
        let Answer { id, reward } = answer::read(line).map_err(noise)?;
        if has_ids && id.is_none() {
            return Err(noise("it has no id, as those before it had"));
        }
        let index = match id {
            Some(id) => id.checked_sub(self.first_id).and_then(|index| usize::try_from(index).ok()),
            None => Some(first),
        };
        let asked = &self.rewards[..self.asked];
        let open = index.filter(|index| asked.get(*index).is_some_and(Option::is_none));
        let open = open.ok_or_else(|| noise("its id is of no question, or was answered before"))?;
        self.rewards[open] = Some(reward.map_err(|value| process.no_number(self.items[open].row, value))?);
        Ok(id.is_some())
    }
}
