//! Ctrl-C: once to stop after the step, twice to end at once.
#![allow(clippy::exit, reason = "the second Ctrl-C ends the process from within a signal's thread")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use collimate_run::{Event, Reporter};

use crate::failure::INTERRUPTED;

static STOP: AtomicBool = AtomicBool::new(false);

/// Watches for Ctrl-C (and SIGTERM, which job queues send) and returns what the first one sets.
pub fn watch(reporter: &Arc<dyn Reporter>) -> &'static AtomicBool {
    // Weak, so that the bar goes with its session and not on ticking below the error that ended it.
    let told = Arc::downgrade(reporter);
    let watching = ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        if let Some(reporter) = told.upgrade() {
            reporter.report(Event::Note("stopping after this step; Ctrl-C again ends at once"));
        }
    });
    match watching {
        // Watched already: the first watcher sets the same flag.
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => {}
        Err(refusal) => {
            reporter.report(Event::Warning(&format!("Ctrl-C will end the run without saving: {refusal}")));
        }
    }
    &STOP
}
