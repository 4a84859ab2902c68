//! A bar on a terminal.

use std::sync::Mutex;
use std::time::Duration;

use collimate_run::{Event, Reporter};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::figures;

/// Draws the running task as a bar; notes and warnings stand above it.
#[derive(Default)]
pub struct Bar {
    running: Mutex<Option<ProgressBar>>,
}

impl Reporter for Bar {
    fn report(&self, event: Event<'_>) {
        let Ok(mut running) = self.running.lock() else { return };
        match event {
            Event::Started { task, total, unit } => *running = Some(start(task, total, unit)),
            Event::Advanced { done, fields } => {
                if let Some(bar) = running.as_ref() {
                    advance(bar, done, fields);
                }
            }
            Event::Note(text) => print_above(running.as_ref(), text),
            Event::Warning(text) => print_above(running.as_ref(), &format!("warning: {text}")),
            Event::Finished => {
                if let Some(bar) = running.take() {
                    end(&bar);
                }
            }
        }
    }
}

fn start(task: &str, total: Option<u64>, unit: &str) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    // The look is fixed text; should the library refuse it, its own default look is as good.
    let style = ProgressStyle::with_template(&template(total.is_some(), unit));
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌");
    let bar = bar.with_style(style).with_prefix(task.to_owned());
    // A task that ends in an error leaves its bar as it was.
    let bar = bar.with_finish(ProgressFinish::Abandon);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn template(has_total: bool, unit: &str) -> String {
    match (has_total, unit) {
        (true, "bytes") => {
            "{prefix} {bar:16.cyan/dim} {bytes}/{total_bytes} {eta} left  {wide_msg}".to_owned()
        }
        (true, _) => format!(
            "{{prefix}} {{bar:16.cyan/dim}} {{human_pos}}/{{human_len}} {unit} {{eta}} left  {{wide_msg}}"
        ),
        (false, "bytes") => "{prefix} {spinner} {bytes} {elapsed_precise}  {wide_msg}".to_owned(),
        (false, _) => {
            format!("{{prefix}} {{spinner}} {{human_pos}} {unit} {{elapsed_precise}}  {{wide_msg}}")
        }
    }
}

fn advance(bar: &ProgressBar, done: u64, fields: &[(&str, f64)]) {
    let first = bar.position() == 0;
    bar.set_position(done);
    if first {
        // A resumed task begins far from 0; what was done before says nothing about the speed now.
        bar.reset_eta();
    }
    if !fields.is_empty() {
        bar.set_message(figures::sentence(fields));
    }
}

/// A task that came to its end leaves its bar to be read; one that only pauses, to go on in a new bar, does not.
fn end(bar: &ProgressBar) {
    let ended = bar.length().is_none_or(|total| bar.position() >= total);
    if ended { bar.abandon() } else { bar.finish_and_clear() }
}

fn print_above(bar: Option<&ProgressBar>, text: &str) {
    match bar {
        Some(bar) => bar.println(text),
        None => super::lines::print(&mut std::io::stderr(), text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_understood() {
        for (has_total, unit) in [(true, "bytes"), (true, "steps"), (false, "bytes"), (false, "rows")] {
            let template = template(has_total, unit);
            assert!(ProgressStyle::with_template(&template).is_ok(), "{template}");
        }
    }

    #[test]
    fn the_bar_follows_the_task() {
        let bar = Bar::default();
        bar.report(Event::Started { task: "training", total: Some(10), unit: "steps" });
        bar.report(Event::Advanced { done: 4, fields: &[("loss", 1.5)] });
        let running = bar.running.lock().unwrap().clone().unwrap();
        assert_eq!((running.position(), running.message()), (4, "loss 1.5000".to_owned()));
        bar.report(Event::Finished);
        assert!(running.is_finished() && bar.running.lock().unwrap().is_none());
    }
}
