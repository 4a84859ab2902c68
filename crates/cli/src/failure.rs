//! How a command ends that did not succeed: what is shown, and the exit code.

use std::io::{self, Write};
use std::panic;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, Report};
use serde_json::json;

use crate::environment::Screen;
use crate::progress::Style;

/// All is done.
pub const DONE: u8 = 0;
/// The person can set it right.
pub const FIXABLE: u8 = 1;
/// A mistake in the program.
pub const BUG: u8 = 2;
/// The person stopped it.
pub const INTERRUPTED: u8 = 130;

/// Makes every panic say that it is our mistake, not the person's; those of a library over a broken file, which
/// become errors, say nothing here.
pub fn own_up_to_panics() {
    panic::set_hook(Box::new(|info| {
        if collimate_stages::panics_become_errors() {
            return;
        }
        let reason = info.payload_as_str().unwrap_or("no reason given");
        let place = info.location().map(|place| format!(" ({place})")).unwrap_or_default();
        let _ = writeln!(
            io::stderr(),
            "collimate has a bug: {reason}{place}\n\
             Please report it, with the command that you ran and the lines above. What was saved is not lost: \
             the same command goes on where it stopped."
        );
    }));
}

/// Shows what clap refused, or the help and version that were asked for.
pub fn of_arguments(refusal: &clap::Error) -> u8 {
    // Nobody is left to be told if this cannot be written.
    let _ = refusal.print();
    if refusal.use_stderr() { FIXABLE } else { DONE }
}

/// Shows on stderr what went wrong, where, and what to do next.
pub fn show(report: &Report, style: Style) {
    let _ = writeln!(io::stderr(), "{}", render(report.as_ref(), style).trim_end());
}

/// The exit code that it means.
pub fn code(report: &Report) -> u8 {
    if is_interruption(report.as_ref()) { INTERRUPTED } else { FIXABLE }
}

/// Whether the person asked for it.
pub fn is_interruption(diagnostic: &dyn Diagnostic) -> bool {
    diagnostic.code().is_some_and(|code| code.to_string() == collimate_run::INTERRUPTED)
}

fn render(diagnostic: &dyn Diagnostic, style: Style) -> String {
    let handler = match style {
        Style::Json => return as_json(diagnostic),
        _ if is_interruption(diagnostic) => return sentence(diagnostic),
        Style::Text(Screen::Coloured) => GraphicalReportHandler::new_themed(GraphicalTheme::unicode()),
        Style::Text(Screen::Plain) => GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()),
        Style::Text(Screen::None) => {
            GraphicalReportHandler::new_themed(GraphicalTheme::none()).with_wrap_lines(false)
        }
    };
    let mut text = String::new();
    match handler.with_links(false).render_report(&mut text, diagnostic) {
        Ok(()) => text,
        Err(_) => sentence(diagnostic),
    }
}

/// What was stopped on purpose is no error and gets no cross.
fn sentence(diagnostic: &dyn Diagnostic) -> String {
    let help = diagnostic.help().map(|help| format!("; {help}")).unwrap_or_default();
    format!("{diagnostic}{help}")
}

fn as_json(diagnostic: &dyn Diagnostic) -> String {
    let mut causes = Vec::new();
    let mut cause = diagnostic.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let help = diagnostic.help().map(|help| help.to_string());
    let event = if is_interruption(diagnostic) { "interrupted" } else { "error" };
    json!({"event": event, "text": diagnostic.to_string(), "causes": causes, "help": help}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_disk() -> collimate_run::Error {
        collimate_run::Error::write("models/out/DONE", io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn an_error_says_what_why_and_what_next() {
        insta::assert_snapshot!("error_in_a_log", render(&full_disk(), Style::Text(Screen::None)));
        insta::assert_snapshot!("error_on_a_screen", render(&full_disk(), Style::Text(Screen::Plain)));
        insta::assert_snapshot!("error_for_a_program", render(&full_disk(), Style::Json));
    }

    #[test]
    fn colours_only_where_they_are_liked() {
        assert!(render(&full_disk(), Style::Text(Screen::Coloured)).contains('\u{1b}'));
        assert!(!render(&full_disk(), Style::Text(Screen::Plain)).contains('\u{1b}'));
        assert!(!render(&full_disk(), Style::Text(Screen::None)).contains('\u{1b}'));
    }

    #[test]
    fn an_interruption_is_no_error() {
        let text = render(&collimate_run::Error::Interrupted, Style::Text(Screen::Plain));
        assert_eq!(text, "stopped before the end; the same command goes on where it stopped");
        assert_eq!(code(&collimate_run::Error::Interrupted.into()), 130);
    }
}
