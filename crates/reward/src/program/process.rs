//! The running program: one thread writes its questions, one reads its answers, one what it says on stderr.
//!
//! So neither side ever waits for the other to empty a pipe, however much is asked at once.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use collimate_run::Context;

use super::ProgramError;

/// The longest line that is read, in bytes; what is longer is cut there.
const LONGEST_LINE: u64 = 1 << 20;
/// Lines of stderr that are kept for an error.
const SAID_LINES: usize = 5;
/// Characters of a line that an error shows.
const SHOWN: usize = 200;
/// How long is waited before it is looked whether the person wants to stop.
const SLICE: Duration = Duration::from_millis(50);
/// How long a program may take to end once its input is closed, and to be heard to the end.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long is slept while that is waited for.
const NAP: Duration = Duration::from_millis(5);

/// What came of waiting.
pub(super) enum Heard {
    /// A line of output.
    Line(Vec<u8>),
    /// The program has ended, or has closed its output.
    End(String),
    /// Nothing.
    Silence,
}

/// A program that runs.
pub(super) struct Process {
    name: String,
    child: Child,
    /// What is written to its input, which closes with this; none when it is to end.
    questions: Option<Sender<Vec<u8>>>,
    answers: Receiver<Vec<u8>>,
    said: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a program with its arguments; `command` is not empty.
    pub fn start(command: &[String]) -> Result<Self, ProgramError> {
        Self::spawn(command).map_err(|source| ProgramError::Start { program: command.join(" "), source })
    }

    fn spawn(words: &[String]) -> io::Result<Self> {
        let name = words.join(" ");
        let mut command = Command::new(words.first().map(String::as_str).unwrap_or_default());
        command
            .args(words.iter().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Ctrl-C is for the command that runs it, which may yet need its answers.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let (questions, asked) = channel::<Vec<u8>>();
        let (answered, answers) = channel();
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let heard = Arc::clone(&said);
        // Each thread ends with its pipe or its channel.
        if let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) {
            thread::spawn(move || asked.iter().try_for_each(|question| stdin.write_all(&question)));
            let blank = |line: &[u8]| line.trim_ascii().is_empty();
            thread::spawn(move || each_line(stdout, |line| blank(&line) || answered.send(line).is_ok()));
        }
        let listen = |stderr| thread::spawn(move || each_line(stderr, |line| remember(&heard, &line)));
        let listener = child.stderr.take().map(listen);
        Ok(Self { name, child, questions: Some(questions), answers, said, listener })
    }

    /// Puts a line on its way.
    pub fn send(&self, question: Vec<u8>) {
        // That the program no longer reads is seen when its answers are waited for.
        let _ = self.questions.as_ref().map(|questions| questions.send(question));
    }

    /// A line, not a blank one, that it has written already.
    pub fn line_at_hand(&self) -> Option<Vec<u8>> {
        self.answers.try_recv().ok()
    }

    /// Waits for the next line that is not blank, at most so long.
    ///
    /// # Errors
    /// The person wants to stop.
    pub fn next(&mut self, timeout: Duration, context: &Context) -> collimate_run::Result<Heard> {
        let begun = Instant::now();
        let mut has_ended = false;
        loop {
            context.check()?;
            match self.answers.recv_timeout(SLICE) {
                Ok(line) => return Ok(Heard::Line(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Heard::End(self.end())),
                // What it wrote before its end has arrived by now, though a child of its own may hold the pipe open.
                Err(RecvTimeoutError::Timeout) if has_ended => return Ok(Heard::End(self.end())),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() >= timeout => return Ok(Heard::Silence),
                Err(RecvTimeoutError::Timeout) => has_ended = matches!(self.child.try_wait(), Ok(Some(_))),
            }
        }
    }

    /// Ends the program, first by closing its input, and whatever it has started; says how it ended.
    fn end(&mut self) -> String {
        self.questions = None;
        let begun = Instant::now();
        while begun.elapsed() < FAREWELL && !matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            thread::sleep(NAP);
        }
        // Where all have ended nothing is done.
        self.kill();
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        // Its last words may still be on their way.
        while begun.elapsed() < FAREWELL && self.listener.as_ref().is_some_and(|thread| !thread.is_finished())
        {
            thread::sleep(NAP);
        }
        status
    }

    /// Kills it and its children, which form a group.
    #[cfg(unix)]
    fn kill(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }

    /// Kills it; what it has started may go on.
    #[cfg(not(unix))]
    fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// That it ended before it had answered.
    pub fn ended(&self, row: u64, status: &str) -> ProgramError {
        ProgramError::Ended { program: self.name.clone(), row, status: status.to_owned(), said: self.said() }
    }

    /// That it did not answer in time.
    pub fn silent(&self, row: u64, timeout: Duration) -> ProgramError {
        ProgramError::Silent {
            program: self.name.clone(),
            row,
            seconds: timeout.as_secs(),
            said: self.said(),
        }
    }

    /// That a line of it is no answer.
    pub fn noise(&self, row: u64, line: &[u8], reason: &str) -> ProgramError {
        let (program, line) = (self.name.clone(), shown(line));
        ProgramError::Noise { program, row, line, reason: reason.to_owned(), said: self.said() }
    }

    /// That a reward is no number.
    pub fn no_number(&self, row: u64, value: String) -> ProgramError {
        ProgramError::NoNumber { program: self.name.clone(), row, value, said: self.said() }
    }

    /// The last that it wrote on stderr, as the end of a message.
    fn said(&self) -> String {
        let lines = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = lines.iter().map(|line| format!("\n  {line}")).collect::<String>();
        if lines.is_empty() { lines } else { format!("; it wrote on stderr:{lines}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Hands over line after line, until there are no more or none is wanted.
fn each_line(pipe: impl Read, mut take: impl FnMut(Vec<u8>) -> bool) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut line = Vec::new();
        let read = pipe.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) || !take(line) {
            return;
        }
    }
}

/// Keeps the last lines.
fn remember(said: &Mutex<VecDeque<String>>, line: &[u8]) -> bool {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    if said.len() == SAID_LINES {
        said.pop_front();
    }
    said.push_back(shown(line));
    true
}

/// The first characters of a line.
fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().chars().take(SHOWN).collect()
}
