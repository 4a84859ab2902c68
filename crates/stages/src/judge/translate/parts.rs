//! The texts of some rows on their way into English, each with what has become of it.

use collimate_data::RowWriter;
use collimate_generate::{Error as GenerateError, FinishReason, Prompt, Request, Sample, Usage};
use collimate_judge::{
    Check, Fault, Language, PromptRow, Question, Template, fields, needs_translation, translated,
    translation_request,
};
use miette::Diagnostic;
use serde_json::{Value, json};

use super::Summary;
use crate::Error;

/// Names of the columns that are translated.
const PARTS: [&str; 3] = ["q", "r1", "r2"];

/// Some rows, and what of them is to be translated.
pub(super) struct Block {
    pub rows: Vec<PromptRow>,
    /// In the order of the rows, and of the columns in them.
    pub parts: Vec<Part>,
}

/// A text to be translated.
pub(super) struct Part {
    /// Tells it from all others of the file.
    pub key: u64,
    /// Index of its row in the block.
    row: usize,
    name: &'static str,
    text: String,
    state: State,
}

enum State {
    Waiting(Option<Failure>),
    Done(String),
    Refused(Failure),
}

/// A translation that is none.
struct Failure {
    fault: Fault,
    answer: String,
}

impl Block {
    /// Rows of which the first is number `first` of the file.
    pub fn new(rows: Vec<PromptRow>, first: u64) -> Self {
        let mut parts = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let texts = [&row.q, &row.r1, &row.r2];
            if Language::of_any(texts.map(String::as_str)) == Language::English {
                continue;
            }
            for (place, (name, text)) in PARTS.into_iter().zip(texts).enumerate() {
                if needs_translation(text) {
                    let key = (first + index as u64) * PARTS.len() as u64 + place as u64;
                    let state = State::Waiting(None);
                    parts.push(Part { key, row: index, name, text: text.clone(), state });
                }
            }
        }
        Self { rows, parts }
    }

    /// The error for a part that cannot be asked at all.
    pub fn unanswerable(&self, index: usize, reason: &GenerateError) -> Error {
        let Part { row, name, .. } = &self.parts[index];
        let row = format!("{name} of test_id {}: {reason}", self.rows[*row].test_id);
        Error::Unanswerable { row, hint: reason.help().map(|help| help.to_string()).unwrap_or_default() }
    }

    /// Writes rows that are in English now to the first file, the others to the second.
    pub fn write(
        self,
        template: &Template,
        [translated, untranslated]: &mut [RowWriter; 2],
        summary: &mut Summary,
    ) -> Result<(), Error> {
        let mut parts = self.parts.into_iter().peekable();
        for (index, row) in self.rows.into_iter().enumerate() {
            let parts: Vec<Part> = std::iter::from_fn(|| parts.next_if(|part| part.row == index)).collect();
            let faults: Vec<Value> = parts.iter().filter_map(Part::fault).collect();
            if !faults.is_empty() {
                summary.kept_aside += 1;
                let mut row = fields(&row);
                row.insert("faults".to_owned(), faults.into());
                untranslated.write(&row)?;
            } else if parts.is_empty() && Language::of(&row.prompt) == Language::English {
                summary.unchanged += 1;
                translated.write(&fields(&row))?;
            } else {
                let counter = if parts.is_empty() { &mut summary.unchanged } else { &mut summary.translated };
                *counter += 1;
                translated.write(&fields(&in_english(row, parts, template)))?;
            }
        }
        Ok(())
    }
}

impl Part {
    /// Whether it still wants a translation.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// The request for one more translation, if it wants one: of the same text in other words than the last,
    /// so that a model that always says the same may say something else.
    pub fn request(&self, attempt: u64) -> Request {
        let failed = match &self.state {
            State::Waiting(failure) => failure.as_ref().map(|failure| failure.fault.check),
            State::Done(_) | State::Refused(_) => None,
        };
        let samples = if self.is_waiting() { vec![attempt] } else { Vec::new() };
        Request { samples, ..Request::new(Prompt::Chat(translation_request(&self.text, failed)), self.key) }
    }

    /// Takes an answer for the translation, or keeps what is wrong with it; returns what it took.
    pub fn take(&mut self, sample: &Sample) -> Usage {
        let outcome = match sample.finish_reason {
            FinishReason::Stop => translated(&self.text, &sample.text),
            FinishReason::Length => {
                Err(Fault { check: Check::Complete, reason: "it reached max_new_tokens".to_owned() })
            }
            FinishReason::ContentFilter => {
                Err(Fault { check: Check::Complete, reason: "the server held it back".to_owned() })
            }
        };
        self.state = match outcome {
            Ok(text) => State::Done(text),
            Err(fault) => State::Waiting(Some(Failure { fault, answer: sample.text.clone() })),
        };
        let written = sample.tokens.len() as u64;
        sample.usage.unwrap_or(Usage { prompt_tokens: 0, completion_tokens: written })
    }

    /// Notes that it cannot be asked.
    pub fn refuse(&mut self, reason: &GenerateError) {
        let fault = Fault { check: Check::Answered, reason: reason.to_string() };
        self.state = State::Refused(Failure { fault, answer: String::new() });
    }

    /// What is wrong with it, if it is not translated.
    fn fault(&self) -> Option<Value> {
        let (State::Waiting(Some(Failure { fault, answer })) | State::Refused(Failure { fault, answer })) =
            &self.state
        else {
            return None;
        };
        let Fault { check, reason } = fault;
        Some(json!({ "part": self.name, "check": check, "reason": reason, "answer": answer }))
    }
}

/// A row with the translations of its parts, and the prompt that they make.
fn in_english(mut row: PromptRow, parts: Vec<Part>, template: &Template) -> PromptRow {
    for part in parts {
        if let State::Done(text) = part.state {
            *match part.name {
                "q" => &mut row.q,
                "r1" => &mut row.r1,
                _ => &mut row.r2,
            } = text;
        }
    }
    row.prompt = template.render(&Question { q: &row.q, r1: &row.r1, r2: &row.r2, told: None });
    row
}
