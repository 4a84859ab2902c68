//! The form that answers of a server must have: how it is asked for, and whether an answer has it.
//!
//! Servers pass over fields that they do not know, so no answer is trusted.

use regex::Regex;
use serde_json::{Value, json};

use super::options::Dialect;
use crate::{Constraint, Error, FinishReason, Result, Sample, SamplingOptions};

/// Characters of a text without the form that are shown.
const SHOWN: usize = 60;

/// Characters that regular expressions of any kind read as more than themselves.
const SPECIAL: &str = r"\.+*?()|[]{}^$";

/// What can be said of every whole answer.
#[derive(Debug)]
pub enum Form<'a> {
    /// Nothing.
    Any,
    /// It is JSON; whether it fits the schema is not looked at.
    Json,
    /// It matches from end to end.
    Regex(Regex),
    /// It is one of these.
    Choice(&'a [String]),
}

impl<'a> Form<'a> {
    /// The form of answers that nothing cuts.
    ///
    /// # Errors
    /// [`Error::InvalidConstraint`] for a regular expression that cannot be read.
    pub fn new(sampling: &'a SamplingOptions) -> Result<Self> {
        Ok(match &sampling.constraint {
            None => Self::Any,
            // They may cut an answer anywhere, and the server does not say whether they did.
            Some(_) if !sampling.stop_strings.is_empty() => Self::Any,
            Some(Constraint::Json(_)) => Self::Json,
            Some(Constraint::Regex(regex)) => {
                let invalid = |error: regex::Error| Error::InvalidConstraint { reason: last_line(&error) };
                Self::Regex(Regex::new(&format!(r"\A(?:{regex})\z")).map_err(invalid)?)
            }
            Some(Constraint::Choice(choice)) => Self::Choice(choice),
        })
    }

    /// What a sample lacks that was not cut off.
    pub fn fault(&self, sample: &Sample) -> Option<String> {
        if sample.finish_reason != FinishReason::Stop {
            return None;
        }
        let text = sample.text.as_str();
        let shown = || text.chars().take(SHOWN).collect::<String>();
        match self {
            Self::Json => match serde_json::from_str::<Value>(text) {
                Ok(_) => None,
                Err(error) => Some(format!("{:?} is not JSON ({error})", shown())),
            },
            Self::Regex(regex) if !regex.is_match(text) => {
                Some(format!("{:?} does not match the regular expression", shown()))
            }
            Self::Choice(choice) if !choice.iter().any(|choice| choice == text) => {
                Some(format!("{:?} is none of the choices", shown()))
            }
            Self::Any | Self::Regex(_) | Self::Choice(_) => None,
        }
    }
}

/// The fields that ask for a constraint: those of OpenAI and vLLM, and where a server may be SGLang, also its own.
pub fn fields(dialect: Dialect, constraint: &Constraint) -> Vec<(&'static str, Value)> {
    let (structured, regex) = match constraint {
        Constraint::Json(schema) => {
            let schema = json!({"name": "answer", "schema": schema, "strict": true});
            return vec![("response_format", json!({"type": "json_schema", "json_schema": schema}))];
        }
        Constraint::Regex(regex) => (json!({"regex": regex}), regex.clone()),
        Constraint::Choice(choice) => (json!({"choice": choice}), one_of(choice)),
    };
    match dialect {
        // It refuses a field that it does not know, as it should.
        Dialect::OpenAi => vec![("structured_outputs", structured)],
        Dialect::Vllm => vec![("structured_outputs", structured), ("regex", json!(regex))],
    }
}

/// The next step where a server refuses a request.
pub fn hint(sampling: &SamplingOptions) -> &'static str {
    match &sampling.constraint {
        Some(Constraint::Json(_)) => {
            "the server may not know response_format json_schema, or not all of the schema; \
             if the prompt is too long, shorten it"
        }
        Some(Constraint::Regex(_) | Constraint::Choice(_)) => {
            "the server may know neither structured_outputs, which is vLLM's, nor regex, which is SGLang's: \
             give the form as a JSON Schema instead; if the prompt is too long, shorten it"
        }
        None => {
            "if the prompt is too long, shorten it or lower max_new_tokens; else leave out the setting that \
             the server names"
        }
    }
}

/// The regular expression of some texts.
fn one_of(texts: &[String]) -> String {
    let escaped = |text: &String| {
        text.chars().fold(String::new(), |mut escaped, character| {
            if SPECIAL.contains(character) {
                escaped.push('\\');
            }
            escaped.push(character);
            escaped
        })
    };
    format!("({})", texts.iter().map(escaped).collect::<Vec<_>>().join("|"))
}

/// What is wrong with a regular expression, without the drawing above it.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(constraint: Constraint, text: &str, finish_reason: FinishReason) -> Option<String> {
        let sampling = SamplingOptions { constraint: Some(constraint), ..SamplingOptions::default() };
        let (tokens, text) = (Vec::new(), text.to_owned());
        let sample = Sample { tokens, text, finish_reason, logprobs: None, usage: None };
        Form::new(&sampling).unwrap().fault(&sample)
    }

    #[test]
    fn a_whole_answer_without_the_form_is_found_out() {
        let choice = || Constraint::Choice(vec!["yes".to_owned(), "no?".to_owned()]);
        let regex = || Constraint::Regex("a|b".to_owned());
        let json = || Constraint::Json(json!({}));
        for (constraint, good, bad, expected) in [
            (choice(), "no?", "yes!", r#""yes!" is none of the choices"#),
            (regex(), "b", "ab", r#""ab" does not match the regular expression"#),
            (json(), " {\"a\": 1}\n", "{\"a\": 1} Yes", r#""{\"a\": 1} Yes" is not JSON ("#),
        ] {
            assert_eq!(fault(constraint.clone(), good, FinishReason::Stop), None);
            assert_eq!(fault(constraint.clone(), bad, FinishReason::Length), None);
            let found = fault(constraint, bad, FinishReason::Stop).unwrap();
            assert!(found.starts_with(expected), "{found}");
        }
        let constraint = Some(Constraint::Regex("a(?=b)".to_owned()));
        let error = Form::new(&SamplingOptions { constraint, ..Default::default() }).unwrap_err().to_string();
        let reason = "look-around, including look-ahead and look-behind, is not supported";
        assert_eq!(error, format!("the constraint cannot be used: {reason}"));
    }

    #[test]
    fn choices_are_a_regular_expression_that_matches_them_alone() {
        let texts = [r"a.b\", "(c|d)*", "[e]{1}^$", "?+ -#"].map(str::to_owned);
        let regex = Regex::new(&format!(r"\A{}\z", one_of(&texts))).unwrap();
        assert!(texts.iter().all(|text| regex.is_match(text)));
        assert!(!["axb\\", "c", "", "e^$"].iter().any(|text| regex.is_match(text)));
    }

    #[test]
    fn openai_is_not_told_of_the_field_of_another_server() {
        let names = |dialect| {
            let fields = fields(dialect, &Constraint::Regex("a".to_owned()));
            fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(Dialect::OpenAi), ["structured_outputs"]);
        assert_eq!(names(Dialect::Vllm), ["structured_outputs", "regex"]);
    }
}
