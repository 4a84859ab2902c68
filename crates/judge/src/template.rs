//! Templates of what a judge is asked, with named placeholders, in Jinja.
//!
//! A template runs once, when it is loaded, and leaves pieces of text with places between them. Questions and
//! answers only ever fill the places: no text in them can be taken for a part of the template.

mod error;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Environment, UndefinedBehavior};

use crate::inert::inert;
use crate::{Language, Number};
pub use error::TemplateError;

/// Steps of the template engine, of which each piece of text takes some: ample for what is written by hand.
const FUEL: u64 = 100_000;
/// Stands around the name of a place while the template runs; no text file holds it.
const MARK: char = '\0';

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Asks which answer is better.
    Judge,
    /// Tells which answer is better and asks for the reason alone.
    Guide,
    /// Asks how good one answer is, the first.
    Score,
}

/// What stands in the places of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The question.
    pub q: &'a str,
    /// The first answer.
    pub r1: &'a str,
    /// The second answer.
    pub r2: &'a str,
    /// Which answer a guide is told to be the better one; a judge is not told.
    pub told: Option<Number>,
}

/// A template that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    /// The tags that stand on lines of their own around questions and answers.
    tags: Vec<String>,
    language: Language,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

/// A placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Question,
    FirstAnswer,
    SecondAnswer,
    BetterAnswer,
}

impl Kind {
    fn places(self) -> &'static [Place] {
        match self {
            Self::Judge => &Place::ALL[..3],
            Self::Guide => &Place::ALL,
            Self::Score => &Place::ALL[..2],
        }
    }

    /// The file and text of the built-in template.
    fn source(self, language: Language) -> (&'static str, &'static str) {
        match (self, language) {
            (Self::Judge, Language::Chinese) => {
                ("judge_zh.jinja", include_str!("../templates/judge_zh.jinja"))
            }
            (Self::Judge, Language::English) => {
                ("judge_en.jinja", include_str!("../templates/judge_en.jinja"))
            }
            (Self::Guide, Language::Chinese) => {
                ("guide_zh.jinja", include_str!("../templates/guide_zh.jinja"))
            }
            (Self::Guide, Language::English) => {
                ("guide_en.jinja", include_str!("../templates/guide_en.jinja"))
            }
            (Self::Score, Language::Chinese) => {
                ("score_zh.jinja", include_str!("../templates/score_zh.jinja"))
            }
            (Self::Score, Language::English) => {
                ("score_en.jinja", include_str!("../templates/score_en.jinja"))
            }
        }
    }
}

impl Place {
    const ALL: [Self; 4] = [Self::Question, Self::FirstAnswer, Self::SecondAnswer, Self::BetterAnswer];

    fn name(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::FirstAnswer => "answer_1",
            Self::SecondAnswer => "answer_2",
            Self::BetterAnswer => "better_answer",
        }
    }

    /// As it is written in a template.
    fn written(self) -> String {
        format!("{{{{ {} }}}}", self.name())
    }
}

/// While a template runs, a place stands for the text to come.
impl Object for Place {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{MARK}{}{MARK}", self.name())
    }
}

impl Template {
    /// One of those that the program brings along.
    pub fn built_in(kind: Kind, language: Language) -> &'static Self {
        static TEMPLATES: LazyLock<[[Template; 2]; 3]> = LazyLock::new(|| {
            let kinds = [Kind::Judge, Kind::Guide, Kind::Score];
            kinds.map(|kind| Language::ALL.map(|language| own(kind, language)))
        });
        &TEMPLATES[kind as usize][language as usize]
    }

    /// The template of a text that stood in the file `path`.
    ///
    /// # Errors
    /// It is no template, takes too many steps, lacks a placeholder of its kind or names another one.
    pub fn load(source: &str, path: &Path, kind: Kind) -> Result<Self, TemplateError> {
        let text = run(source, path, kind)?;
        let places = kind.places();
        let mut pieces = Vec::new();
        for (index, part) in text.split(MARK).enumerate() {
            let place = places.iter().find(|place| index % 2 == 1 && place.name() == part);
            pieces.push(place.map_or_else(|| Piece::Text(part.to_owned()), |place| Piece::Place(*place)));
        }
        let missing = places.iter().filter(|place| !pieces.contains(&Piece::Place(**place)));
        let missing: Vec<String> = missing.map(|place| place.written()).collect();
        if !missing.is_empty() {
            return Err(TemplateError::Missing { path: path.to_owned(), missing });
        }
        let texts = pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Place(_) => None,
        });
        let language = Language::of(&texts.collect::<String>());
        Ok(Self { tags: tags(&pieces), pieces, language })
    }

    /// The language that it is written in, its placeholders aside.
    pub fn language(&self) -> Language {
        self.language
    }

    /// The text with a question and its answers in their places. What in them could be taken for a marker of
    /// a chat template, or for the end of its place, has a space after its first character.
    pub fn render(&self, question: &Question<'_>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text += piece,
                Piece::Place(Place::BetterAnswer) => {
                    text += question.told.map_or("", |told| if told == Number::First { "1" } else { "2" });
                }
                Piece::Place(place) => text += &inert(question.text(*place), &self.tags),
            }
        }
        text
    }

    /// Whether a question or an answer holds something that is made harmless where it is put in.
    pub fn is_imitated_in(&self, question: &Question<'_>) -> bool {
        [question.q, question.r1, question.r2].iter().any(|text| *text != inert(text, &self.tags))
    }
}

impl<'a> Question<'a> {
    fn text(&self, place: Place) -> &'a str {
        match place {
            Place::Question => self.q,
            Place::FirstAnswer => self.r1,
            Place::SecondAnswer => self.r2,
            Place::BetterAnswer => "",
        }
    }
}

#[expect(clippy::expect_used, reason = "all are constants, and a test loads them")]
fn own(kind: Kind, language: Language) -> Template {
    let (name, source) = kind.source(language);
    let template = Template::load(source, Path::new(name), kind).expect("a template of the program");
    Template { language, ..template }
}

/// What a template makes of the places of its kind.
fn run(source: &str, path: &Path, kind: Kind) -> Result<String, TemplateError> {
    let failed = |error: minijinja::Error| TemplateError::Jinja {
        path: path.to_owned(),
        line: error.line().unwrap_or(1),
        reason: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
    };
    // No filter and no function: a text that is put in later could not pass through them.
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let template = environment.template_from_str(source).map_err(failed)?;
    let places = kind.places();
    let mut unknown: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    unknown.retain(|name| places.iter().all(|place| place.name() != name));
    unknown.sort();
    if !unknown.is_empty() {
        let known = places.iter().map(|place| place.written()).collect();
        return Err(TemplateError::Unknown { path: path.to_owned(), unknown, known });
    }
    let values: BTreeMap<&str, Value> =
        places.iter().map(|place| (place.name(), Value::from_object(*place))).collect();
    template.render(values).map_err(failed)
}

/// The tags that stand alone on the line before and after the place of a text.
fn tags(pieces: &[Piece]) -> Vec<String> {
    let mut tags = Vec::new();
    for around in pieces.windows(3) {
        let [Piece::Text(before), Piece::Place(place), Piece::Text(after)] = around else { continue };
        if *place == Place::BetterAnswer {
            continue;
        }
        let lines = [before.trim_end().lines().next_back(), after.trim_start().lines().next()];
        for line in lines.into_iter().flatten().map(str::trim) {
            let is_tag = line.starts_with('<')
                && line.ends_with('>')
                && line.matches(['<', '>']).count() == 2
                && !tags.iter().any(|tag| tag == line);
            if is_tag {
                tags.push(line.to_owned());
            }
        }
    }
    tags
}

#[cfg(test)]
mod tests;
