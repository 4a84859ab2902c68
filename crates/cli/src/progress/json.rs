//! One JSON object a line, for programs that run this one.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use collimate_run::{Event, Reporter};
use serde_json::{Map, Value, json};

use super::Pace;
use super::lines::print;

/// Writes every event as an object; of the `advanced` ones at most one per interval, and the last.
pub struct Json<W> {
    state: Mutex<State<W>>,
}

struct State<W> {
    out: W,
    pace: Pace,
    /// An `advanced` that was held back.
    held: Option<Value>,
}

impl<W: Write + Send> Json<W> {
    /// Objects into `out`, `advanced` at most once per `interval`.
    pub fn new(out: W, interval: Duration) -> Self {
        Self { state: Mutex::new(State { out, pace: Pace::new(interval), held: None }) }
    }
}

impl<W: Write + Send> Reporter for Json<W> {
    fn report(&self, event: Event<'_>) {
        let Ok(mut state) = self.state.lock() else { return };
        let State { out, pace, held } = &mut *state;
        let value = describe(event);
        if let Event::Advanced { .. } = event {
            if !pace.is_due() {
                *held = Some(value);
                return;
            }
            *held = None;
        }
        if let Some(held) = held.take() {
            print(out, &held.to_string());
        }
        print(out, &value.to_string());
    }
}

fn describe(event: Event<'_>) -> Value {
    match event {
        Event::Started { task, total, unit } => {
            json!({"event": "started", "task": task, "total": total, "unit": unit})
        }
        Event::Advanced { done, fields } => {
            let fields: Map<String, Value> =
                fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            json!({"event": "advanced", "done": done, "fields": fields})
        }
        Event::Note(text) => json!({"event": "note", "text": text}),
        Event::Warning(text) => json!({"event": "warning", "text": text}),
        Event::Finished => json!({"event": "finished"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_advance_is_never_held_back() {
        let json = Json::new(Vec::new(), Duration::MAX);
        json.report(Event::Started { task: "training", total: None, unit: "steps" });
        for done in 1..=3 {
            json.report(Event::Advanced { done, fields: &[("loss", f64::NAN), ("margin", 0.5)] });
        }
        json.report(Event::Finished);
        let text = String::from_utf8(json.state.into_inner().unwrap().out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            r#"{"event":"started","task":"training","total":null,"unit":"steps"}"#,
            r#"{"event":"advanced","done":3,"fields":{"loss":null,"margin":0.5}}"#,
            r#"{"event":"finished"}"#,
        ];
        assert_eq!(lines, expected);
    }
}
