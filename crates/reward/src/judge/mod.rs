//! Judges: models that say which of two completions is better, or how good one is.

mod compare;
mod score;

use collimate_generate::{Answer, Constraint, Generator, Prompt, Request, SamplingOptions};
use collimate_judge::{Kind, Language, Question, Template, Turn, conversation};
use collimate_run::{Context, random};
use serde_json::{Value, json};

pub use self::compare::JudgeCompare;
pub use self::score::JudgeScore;
use crate::{Error, Item, Result};

/// How often a judge is asked that writes what cannot be read.
const ATTEMPTS: u64 = 3;

/// What writes for a judge: it outlives the generators that are made of it.
pub trait JudgeSource {
    /// What answers requests.
    fn generator(&mut self) -> Box<dyn Generator + '_>;
}

/// A model that judges, and how it is asked.
pub struct Judge {
    /// What writes.
    pub source: Box<dyn JudgeSource>,
    /// The adapter that answers, by its name.
    pub adapter: Option<String>,
    /// Whether it is asked as in a conversation; else with the bare text.
    pub chat: bool,
    /// Tokens of a judgement, at most.
    pub max_new_tokens: usize,
}

/// What a judge is asked.
struct Asked {
    row: u64,
    language: Language,
    text: String,
    /// Tells it from others: the same for the same completions of the same row.
    key: u64,
}

/// What a judge is to write: the form that holds it to that, by the language and the longest reason, and how it is read.
type Form<T> = (fn(Language, usize) -> Value, fn(&str) -> Option<T>);

impl Judge {
    /// What it says of each question. What cannot be read is asked for again, up to [`ATTEMPTS`] times in all.
    fn judge<T>(
        &mut self,
        reward: &str,
        questions: &[Asked],
        (form, read): Form<T>,
        context: &Context,
    ) -> Result<Vec<T>> {
        let mut found: Vec<Option<T>> = questions.iter().map(|_| None).collect();
        for number in 0..ATTEMPTS {
            let open: Vec<usize> = (0..found.len()).filter(|at| found[*at].is_none()).collect();
            let asked: Vec<&Asked> = open.iter().map(|at| &questions[*at]).collect();
            let texts = self.ask(reward, (&asked, number), form, context)?;
            for (at, text) in open.into_iter().zip(texts) {
                found[at] = read(&text);
                if found[at].is_none() && number + 1 == ATTEMPTS {
                    let (reward, row) = (reward.to_owned(), questions[at].row);
                    return Err(Error::Unread { reward, row, attempts: ATTEMPTS, text });
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// What it writes as sample `number` of each question, in the form of its language. The first sample is the
    /// likeliest text, and the others are drawn.
    fn ask(
        &mut self,
        reward: &str,
        (asked, number): (&[&Asked], u64),
        form: fn(Language, usize) -> Value,
        context: &Context,
    ) -> Result<Vec<String>> {
        let mut texts = vec![String::new(); asked.len()];
        // A constraint is one for a whole call.
        for language in Language::ALL {
            let places: Vec<usize> = (0..asked.len()).filter(|at| asked[*at].language == language).collect();
            if places.is_empty() {
                continue;
            }
            let requests: Vec<Request> = places.iter().map(|at| self.request(asked[*at], number)).collect();
            let longest = collimate_judge::longest_reason(language, self.max_new_tokens);
            let options = SamplingOptions {
                do_sample: number > 0,
                max_new_tokens: self.max_new_tokens,
                constraint: Some(Constraint::Json(form(language, longest))),
                ..SamplingOptions::default()
            };
            let mut refused = None;
            // Only the rewards as a whole have progress to show.
            self.source.generator().generate(&requests, &options, &context.silent(), &mut |answer| {
                match answer {
                    Answer::Sample { request, sample, .. } => texts[places[request]] = sample.text,
                    Answer::Refused { request, error } => {
                        refused.get_or_insert((places[request], error));
                    }
                    Answer::Piece { .. } => {}
                }
                Ok(())
            })?;
            if let Some((at, source)) = refused {
                let (reward, row, source) = (reward.to_owned(), asked[at].row, Box::new(source));
                return Err(Error::Judge { reward, row, source });
            }
        }
        Ok(texts)
    }

    fn request(&self, Asked { text, key, .. }: &Asked, number: u64) -> Request {
        let prompt = if self.chat {
            Prompt::Chat(vec![json!({ "role": "user", "content": text })])
        } else {
            Prompt::Text(text.clone())
        };
        Request { samples: vec![number], adapter: self.adapter.clone(), ..Request::new(prompt, *key) }
    }
}

/// A question about completions of an item's prompt: one, or two that are compared. `places` are theirs among those of
/// the prompt.
fn asked(item: &Item<'_>, completions: &[&str], places: &[usize], kind: Kind) -> Result<Asked, String> {
    let turns = turns(item.prompt)?;
    let said = turns.iter().map(|turn| turn.content.as_str());
    let language = Language::of_any(said.chain(completions.iter().copied()));
    let q = conversation(&turns, language);
    let [r1, r2] = [0, 1].map(|at| completions.get(at).copied().unwrap_or_default());
    let text = Template::built_in(kind, language).render(&Question { q: &q, r1, r2, told: None });
    let parts: Vec<u64> = places.iter().map(|place| *place as u64).collect();
    let key = random::stream(item.row, &parts).next_u64();
    Ok(Asked { row: item.row, language, text, key })
}

fn turns(prompt: &Value) -> Result<Vec<Turn>, String> {
    match prompt {
        Value::Array(messages) => messages.iter().map(Turn::of).collect(),
        Value::String(text) => Ok(vec![Turn { role: "user".to_owned(), content: text.clone() }]),
        _ => Err("its prompt is neither a text nor messages".to_owned()),
    }
}
