//! What a person or a machine sees while a stage runs; always on stderr.

mod bar;
mod json;
mod lines;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use collimate_run::{Event, Reporter};

use crate::environment::Screen;

/// How progress and errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For whatever stands behind stderr: a bar on a terminal, else lines.
    Text(Screen),
    /// One JSON object a line.
    Json,
}

/// The reporter for a style; a quiet one passes on warnings alone.
pub fn reporter(style: Style, quiet: bool) -> Arc<dyn Reporter> {
    let reporter: Box<dyn Reporter> = match style {
        Style::Json => Box::new(json::Json::new(io::stderr(), Duration::from_millis(500))),
        Style::Text(Screen::None) => Box::new(lines::Lines::new(io::stderr(), Duration::from_secs(10))),
        Style::Text(_) if quiet => Box::new(lines::Lines::new(io::stderr(), Duration::MAX)),
        Style::Text(_) => Box::new(bar::Bar::default()),
    };
    if quiet { Arc::new(WarningsOnly(reporter)) } else { Arc::from(reporter) }
}

struct WarningsOnly(Box<dyn Reporter>);

impl Reporter for WarningsOnly {
    fn report(&self, event: Event<'_>) {
        if let Event::Warning(_) = event {
            self.0.report(event);
        }
    }
}

/// Lets through at most one event per interval.
struct Pace {
    interval: Duration,
    last: Instant,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self { interval, last: Instant::now() }
    }

    fn is_due(&mut self) -> bool {
        let due = self.last.elapsed() >= self.interval;
        if due {
            self.last = Instant::now();
        }
        due
    }
}
