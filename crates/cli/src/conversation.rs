//! `chat` on a terminal, or through pipes: lines in, answers out as they are written.

use std::io::{self, BufRead, ErrorKind, StdinLock, Write};
use std::path::Path;
use std::sync::atomic::Ordering;

use collimate_run::{Context, Error as RunError, Event, RunOptions, Silent};
use collimate_stages::chat::{Chat, Config, Reply, Turn};
use miette::Report;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::session::Session;
use crate::{environment, failure};

/// What a person types behind.
const PROMPT: &str = "> ";

/// Leads a conversation until its end.
pub fn run(session: &Session) -> Result<(), Report> {
    let options = session.run_options();
    // Nothing is written but to the terminal.
    let nowhere = Path::new("");
    let config: Config = session.settings()?;
    let api_key = environment::api_key(&config.server)?;
    let context = Context::new(nowhere, &options, false);
    let mut chat = Chat::open(config, session.threads(), api_key.as_ref(), &context)?;
    // A bar would stand within the text.
    let silent = RunOptions { reporter: &Silent, ..options };
    let context = Context::new(nowhere, &silent, false);
    let mut input = Input::open()?;
    if let Input::Terminal(_) = input {
        options.reporter.report(Event::Note("/help lists the commands, /quit ends"));
    }
    while let Some(line) = input.line()? {
        match chat.command(&line) {
            _ if line.trim().is_empty() => {}
            Some(Reply::Quit) => break,
            Some(Reply::Note(note)) => options.reporter.report(Event::Note(&note)),
            None => {
                if !answer(&mut chat, line.trim(), session, &context)? {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Answers one message; false where nobody reads any more. What goes wrong with a message does not end the
/// conversation.
fn answer(chat: &mut Chat, message: &str, session: &Session, context: &Context) -> Result<bool, Report> {
    let interrupted = session.interrupted();
    interrupted.store(false, Ordering::Relaxed);
    let mut shown = Ok(());
    let turn = chat.answer(message, context, &mut |piece| {
        if !session.wants_json() && shown.is_ok() {
            shown = put(piece);
            // What nobody can read is not written to its end.
            if shown.is_err() {
                interrupted.store(true, Ordering::Relaxed);
            }
        }
    });
    match turn {
        Ok(turn) if session.wants_json() => session.print(&turn, "")?,
        Ok(turn) => {
            shown = shown.and_then(|()| put("\n"));
            note(&turn, session);
        }
        Err(error) => {
            failure::show(&error.into(), session.style());
        }
    }
    match shown {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(RunError::write("stdout", source).into()),
    }
}

fn note(turn: &Turn, session: &Session) {
    for note in turn.notes() {
        session.run_options().reporter.report(Event::Note(&note));
    }
}

/// Shows text at once.
fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Where messages come from.
enum Input {
    /// A person who types, and may edit the line and go back to earlier ones.
    Terminal(Box<DefaultEditor>),
    /// A file or a pipe.
    Plain(StdinLock<'static>),
}

impl Input {
    fn open() -> Result<Self, RunError> {
        if !environment::is_typed_in() {
            return Ok(Self::Plain(io::stdin().lock()));
        }
        Ok(Self::Terminal(Box::new(DefaultEditor::new().map_err(unreadable)?)))
    }

    /// The next line; none at the end.
    fn line(&mut self) -> Result<Option<String>, RunError> {
        match self {
            Self::Terminal(editor) => loop {
                match editor.readline(PROMPT) {
                    Ok(line) => {
                        // A history that cannot be kept is no reason to stop.
                        let _ = editor.add_history_entry(line.as_str());
                        return Ok(Some(line));
                    }
                    // Ctrl-C drops the line.
                    Err(ReadlineError::Interrupted) => {}
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(unreadable(error)),
                }
            },
            Self::Plain(input) => {
                let mut line = String::new();
                let read = input.read_line(&mut line);
                let read = read.map_err(|source| RunError::read("standard input", source))?;
                Ok((read > 0).then_some(line))
            }
        }
    }
}

fn unreadable(error: ReadlineError) -> RunError {
    let source = match error {
        ReadlineError::Io(source) => source,
        other => io::Error::other(other),
    };
    RunError::read("standard input", source)
}
