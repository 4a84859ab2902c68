//! Plain lines, for files, pipes and job logs.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use collimate_run::{Event, Reporter};
use indicatif::FormattedDuration;

use super::Pace;
use crate::figures;

/// Writes a line when a task begins and ends, and one per interval between.
pub struct Lines<W> {
    state: Mutex<State<W>>,
    interval: Duration,
}

struct State<W> {
    out: W,
    running: Option<Running>,
}

struct Running {
    task: String,
    unit: String,
    total: Option<u64>,
    /// Where the task stood at its first report: a resumed one begins far from 0.
    first: Option<(u64, Instant)>,
    done: u64,
    figures: String,
    begun: Instant,
    pace: Pace,
}

impl<W: Write + Send> Lines<W> {
    /// Lines into `out`, progress at most once per `interval`.
    pub fn new(out: W, interval: Duration) -> Self {
        Self { state: Mutex::new(State { out, running: None }), interval }
    }
}

impl<W: Write + Send> Reporter for Lines<W> {
    fn report(&self, event: Event<'_>) {
        let Ok(mut state) = self.state.lock() else { return };
        let State { out, running } = &mut *state;
        match event {
            Event::Started { task, total, unit } => {
                let size = total.map(|total| format!(": {}", figures::amount(total, unit)));
                print(out, &format!("{task}{}", size.unwrap_or_default()));
                *running = Some(Running::new((task, unit), total, Pace::new(self.interval)));
            }
            Event::Advanced { done, fields } => {
                let Some(running) = running else { return };
                running.advance(done, fields);
                if running.pace.is_due() {
                    print(out, &running.line(running.left().map(|left| format!("{left} left"))));
                }
            }
            Event::Finished => {
                if let Some(running) = running.take() {
                    let taken = FormattedDuration(running.begun.elapsed());
                    print(out, &running.line(Some(format!("in {taken}"))));
                }
            }
            Event::Note(text) => print(out, text),
            Event::Warning(text) => print(out, &format!("warning: {text}")),
        }
    }
}

impl Running {
    fn new((task, unit): (&str, &str), total: Option<u64>, pace: Pace) -> Self {
        Self {
            task: task.to_owned(),
            unit: unit.to_owned(),
            total,
            first: None,
            done: 0,
            figures: String::new(),
            begun: Instant::now(),
            pace,
        }
    }

    fn advance(&mut self, done: u64, fields: &[(&str, f64)]) {
        self.first.get_or_insert_with(|| (done, Instant::now()));
        self.done = done;
        if !fields.is_empty() {
            self.figures = figures::sentence(fields);
        }
    }

    fn line(&self, time: Option<String>) -> String {
        let progress = self.first.map(|_| figures::done_of(self.done, self.total, &self.unit));
        let figures = Some(self.figures.clone()).filter(|figures| !figures.is_empty());
        let parts: Vec<String> = [progress, figures, time].into_iter().flatten().collect();
        format!("{}: {}", self.task, parts.join(", "))
    }

    /// The time that the rest will take at the speed so far.
    fn left(&self) -> Option<FormattedDuration> {
        let (first, since) = self.first?;
        let done = self.done.checked_sub(first).filter(|done| *done > 0)?;
        let rest = self.total?.checked_sub(self.done)?;
        let seconds = since.elapsed().as_secs_f64() * rest as f64 / done as f64;
        Duration::try_from_secs_f64(seconds).ok().map(FormattedDuration)
    }
}

/// Writes a line; where nobody listens any more, nothing is lost.
pub fn print(out: &mut impl Write, text: &str) {
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(interval: Duration) -> Vec<String> {
        let lines = Lines::new(Vec::new(), interval);
        lines.report(Event::Started { task: "training", total: Some(5000), unit: "steps" });
        for done in [1000, 2500] {
            lines.report(Event::Advanced { done, fields: &[("loss", 1.5)] });
        }
        lines.report(Event::Warning("3 rows were cut"));
        lines.report(Event::Advanced { done: 5000, fields: &[] });
        lines.report(Event::Finished);
        let text = String::from_utf8(lines.state.into_inner().unwrap().out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_task_that_counted_nothing_names_no_count() {
        let lines = Lines::new(Vec::new(), Duration::MAX);
        lines.report(Event::Started { task: "loading", total: None, unit: "rows" });
        lines.report(Event::Finished);
        let text = String::from_utf8(lines.state.into_inner().unwrap().out).unwrap();
        assert_eq!(text, "loading\nloading: in 00:00:00\n");
    }

    #[test]
    fn between_beginning_and_end_the_interval_decides() {
        let few = written(Duration::MAX);
        let expected = [
            "training: 5,000 steps",
            "warning: 3 rows were cut",
            "training: 5,000 of 5,000 steps, loss 1.5000, in 00:00:00",
        ];
        assert_eq!(few, expected);
        let all = written(Duration::ZERO);
        assert_eq!(all[1], "training: 1,000 of 5,000 steps, loss 1.5000");
        assert_eq!(all[2], "training: 2,500 of 5,000 steps, loss 1.5000, 00:00:00 left");
        assert_eq!(all.len(), 6);
    }
}
