//! The settings of sampling that all commands share which write text, and what they mean to a generator.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Command};
use collimate_generate::{Constraint, SamplingOptions};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Error;

/// What has no effect without a draw; a command's own settings join them as `group = "draws"`.
const DRAWS: [&str; 4] = ["temperature", "top_k", "top_p", "min_p"];

/// How a token is drawn. A command whose defaults are others sets them with `mut_arg`.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case", next_help_heading = "Sampling")]
pub struct Drawing {
    /// What logits are divided by before a draw: below 1 the likely tokens gain.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub temperature: f64,
    /// Draw from so many most likely tokens; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub top_k: usize,
    /// Draw from the most likely tokens that together have this probability.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub top_p: f64,
    /// Draw from tokens at least so likely, as a share of the likeliest one's probability; 0 for all.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub min_p: f64,
}

/// How an answer is written, however its tokens are chosen.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case", next_help_heading = "Sampling")]
pub struct Writing {
    /// Tokens after which an answer ends in any case.
    #[arg(long, value_name = "TOKENS", default_value_t = 200)]
    pub max_new_tokens: usize,
    /// Tokens before which an answer is not ended by a token.
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    pub min_new_tokens: usize,
    /// Above 1, tokens of the prompt and of the answer so far become less likely.
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Taken from the logit of a token for every time that it stands in the answer.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, allow_negative_numbers = true)]
    pub frequency_penalty: f64,
    /// Taken once from the logits of tokens that stand in the answer.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, allow_negative_numbers = true)]
    pub presence_penalty: f64,
    /// A text that ends an answer where it first stands in it, and is not part of it; may be repeated.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Tokens that end an answer, instead of the model's own; a server adds them to its own.
    #[arg(long, value_name = "TOKEN", value_delimiter = ',')]
    pub eos_token_id: Vec<u32>,
    /// A file with a JSON Schema that every answer must fit.
    #[arg(long, value_name = "FILE", group = "constraint")]
    pub schema: Option<PathBuf>,
    /// A regular expression that must match every answer from end to end.
    #[arg(long, value_name = "PATTERN", group = "constraint")]
    pub regex: Option<String>,
    /// A text that an answer may be; repeated, every answer is one of them.
    #[arg(long, value_name = "TEXT", group = "constraint")]
    pub choice: Vec<String>,
    /// Seed of the draws.
    #[arg(long, value_name = "NUMBER", default_value_t = 42)]
    pub seed: u64,
}

/// How answers are written by a command that draws only where it is asked to.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(
    rename_all = "snake_case",
    next_help_heading = "Sampling",
    // A temperature that has no effect is a mistake.
    group = ArgGroup::new("draws").args(DRAWS).multiple(true).requires("do_sample")
)]
pub struct Sampling {
    /// Draw tokens by their probability instead of taking the most likely one.
    #[arg(long)]
    pub do_sample: bool,
    /// How they are drawn.
    #[command(flatten)]
    #[serde(flatten)]
    pub drawing: Drawing,
    /// All else.
    #[command(flatten)]
    #[serde(flatten)]
    pub writing: Writing,
}

impl Sampling {
    /// What they mean to a generator; `Writing::options` says what can be wrong.
    pub(crate) fn options(&self) -> Result<SamplingOptions, Error> {
        Ok(SamplingOptions { do_sample: self.do_sample, ..self.writing.options(&self.drawing)? })
    }
}

impl Writing {
    /// What they mean to a generator that draws; a file that holds no JSON Schema is an error.
    pub(crate) fn options(&self, drawing: &Drawing) -> Result<SamplingOptions, Error> {
        let options = SamplingOptions {
            do_sample: true,
            temperature: drawing.temperature,
            top_k: drawing.top_k,
            top_p: drawing.top_p,
            min_p: drawing.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            max_new_tokens: self.max_new_tokens,
            max_length: None,
            min_new_tokens: self.min_new_tokens,
            stop_strings: self.stop.clone(),
            eos_token_id: Some(self.eos_token_id.clone()).filter(|tokens| !tokens.is_empty()),
            logprobs: None,
            constraint: self.constraint()?,
            seed: self.seed,
        };
        options.check()?;
        Ok(options)
    }

    fn constraint(&self) -> Result<Option<Constraint>, Error> {
        if let Some(path) = &self.schema {
            return Ok(Some(Constraint::Json(read_schema(path)?)));
        }
        let choice = Some(self.choice.clone()).filter(|choice| !choice.is_empty()).map(Constraint::Choice);
        Ok(self.regex.clone().map(Constraint::Regex).or(choice))
    }
}

fn read_schema(path: &Path) -> Result<Value, Error> {
    let text = std::fs::read(path).map_err(|source| collimate_run::Error::read(path, source))?;
    serde_json::from_slice(&text).map_err(|source| Error::Schema { path: path.to_owned(), source })
}

/// The settings as a manifest keeps them. Of paths, whose contents the runner hashes, it matters whether they
/// are given.
pub(crate) fn described(settings: impl Serialize, paths: &[&str]) -> Map<String, Value> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(settings) else { return Map::new() };
    for path in paths {
        if let Some(value) = fields.get_mut(*path) {
            *value = Value::Bool(!value.is_null());
        }
    }
    fields
}

/// Whether a setting, by its name, is as if it had not been given: absent, off, or at its default.
pub(crate) fn is_default<A: Args + Serialize>(settings: &A, name: &str) -> bool {
    let fields = described(settings, &[]);
    match fields.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(value) => {
            let written = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let command = A::augment_args(Command::new("settings"));
            let mut arguments = command.get_arguments();
            let argument = arguments.find(|argument| argument.get_id() == name);
            argument.is_some_and(|argument| argument.get_default_values() == [written.as_str()])
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;
    use collimate_run::atomic;
    use serde_json::json;

    use super::*;

    fn parse(words: &[&str]) -> Result<Sampling, clap::Error> {
        let command = Sampling::augment_args(Command::new("test").no_binary_name(true));
        Sampling::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn defaults_are_those_of_the_generator() {
        assert_eq!(parse(&[]).unwrap().options().unwrap(), SamplingOptions::default());
    }

    #[test]
    fn every_setting_arrives() {
        let words = "--do_sample --temperature 0.5 --top_k 3 --top_p 0.8 --min_p 0.1 --repetition_penalty 1.1 \
                     --frequency_penalty -0.2 --presence_penalty 0.3 --max_new_tokens 9 --min_new_tokens 2 \
                     --stop END --stop \n --eos_token_id 1,2 --seed 7";
        let words: Vec<&str> = words.split(' ').filter(|word| !word.is_empty()).collect();
        let expected = SamplingOptions {
            do_sample: true,
            temperature: 0.5,
            top_k: 3,
            top_p: 0.8,
            min_p: 0.1,
            repetition_penalty: 1.1,
            frequency_penalty: -0.2,
            presence_penalty: 0.3,
            max_new_tokens: 9,
            max_length: None,
            min_new_tokens: 2,
            stop_strings: vec!["END".into(), "\n".into()],
            eos_token_id: Some(vec![1, 2]),
            logprobs: None,
            constraint: None,
            seed: 7,
        };
        assert_eq!(parse(&words).unwrap().options().unwrap(), expected);
    }

    #[test]
    fn a_constraint_is_a_schema_a_pattern_or_choices() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schema.json");
        atomic::write(&path, br#"{"type": "object"}"#).unwrap();
        let constraint = |words: &[&str]| parse(words).unwrap().options().unwrap().constraint;
        let schema = ["--schema", path.to_str().unwrap()];
        assert_eq!(constraint(&["--regex", "a+"]), Some(Constraint::Regex("a+".into())));
        assert_eq!(constraint(&schema), Some(Constraint::Json(json!({ "type": "object" }))));
        let choices = ["--choice", "a, b", "--choice", "c"];
        assert_eq!(constraint(&choices), Some(Constraint::Choice(vec!["a, b".into(), "c".into()])));
        assert!(parse(&[schema, ["--regex", "a"]].concat()).is_err());
        // The contents are an input of the run, the path is not its business.
        assert_eq!(described(parse(&schema).unwrap(), &["schema"])["schema"], true);
        assert_eq!(described(parse(&choices).unwrap(), &["schema"])["schema"], false);
    }

    #[test]
    fn settings_of_a_draw_want_one() {
        for setting in DRAWS.map(|name| format!("--{name}")) {
            assert!(parse(&[&setting, "1"]).is_err(), "{setting}");
            assert!(parse(&[&setting, "1", "--do_sample"]).is_ok(), "{setting}");
        }
    }
}
