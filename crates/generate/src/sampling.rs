//! How tokens are chosen: the settings, by their Hugging Face names.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The lowest temperature: below it, logits divided by it may leave the range of f32.
const LOWEST_TEMPERATURE: f64 = 1e-6;

/// The range of f32 without the tiniest numbers, which have not all digits; logits are changed in it.
const POSITIVE: &str = "between 1.2e-38 and 3.4e38";

/// The most log-probs for one place, as in OpenAI's interface.
const MOST_LOGPROBS: usize = 20;

/// How tokens are chosen, in the order and by the definitions of transformers' `generate`: repetition penalty (then
/// frequency and presence penalty, by vLLM's definition), minimum length, constraint; then, if `do_sample`,
/// temperature, top-k, top-p, min-p and a draw; else the most likely token. Defaults are those of `GenerationConfig`
/// there, but for `max_new_tokens`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingOptions {
    /// Draw tokens by their probability; else the most likely one is taken each time, of equals the first.
    pub do_sample: bool,
    /// What logits are divided by: below 1 the likely tokens gain, above 1 the unlikely ones.
    pub temperature: f64,
    /// Only so many most likely tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability are drawn from; 1 for all.
    pub top_p: f64,
    /// Only tokens at least so likely, as a share of the likeliest one's probability, are drawn from; 0 for all.
    pub min_p: f64,
    /// What the logits of tokens that stand in the prompt or the answer are divided by (multiplied, if negative).
    pub repetition_penalty: f64,
    /// Taken from the logit of a token for every time that it stands in the answer.
    pub frequency_penalty: f64,
    /// Taken once from the logits of tokens that stand in the answer.
    pub presence_penalty: f64,
    /// Tokens after which an answer ends in any case.
    pub max_new_tokens: usize,
    /// Tokens of a prompt and of the longest answer to it, at most: a prompt that leaves less room is refused. Not
    /// given, an answer ends where the model's context does. A server keeps to its own limit.
    pub max_length: Option<usize>,
    /// Tokens before which an answer is not ended by a token.
    pub min_new_tokens: usize,
    /// Texts that end an answer where they first stand in it; they are not part of it.
    pub stop_strings: Vec<String>,
    /// Tokens that end an answer; not given, the model's own.
    pub eos_token_id: Option<Vec<u32>>,
    /// Give the log-probs of the tokens, and of so many of the likeliest in the place of each.
    pub logprobs: Option<usize>,
    /// The form that an answer must have.
    pub constraint: Option<Constraint>,
    /// Seed of all draws.
    pub seed: u64,
}

/// A form of answers, named as in vLLM's structured outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// JSON that fits this JSON Schema.
    Json(serde_json::Value),
    /// A text that this regular expression matches from end to end.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            max_new_tokens: 200,
            max_length: None,
            min_new_tokens: 0,
            stop_strings: Vec::new(),
            eos_token_id: None,
            logprobs: None,
            constraint: None,
            seed: 42,
        }
    }
}

impl SamplingOptions {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] or [`Error::Empty`] names the first that cannot be.
    pub fn check(&self) -> Result<()> {
        let Self { temperature, top_p, min_p, repetition_penalty, .. } = *self;
        let Self { frequency_penalty, presence_penalty, max_new_tokens, min_new_tokens, .. } = *self;
        let is_positive = |value: f64| value > 0.0 && (value as f32).is_normal();
        let hot = temperature >= LOWEST_TEMPERATURE && is_positive(temperature);
        let (share, penalty) = ("between 0 and 1", "between -2 and 2");
        let is_share = |value: f64| (0.0..=1.0).contains(&value);
        let is_penalty = |value: f64| (-2.0..=2.0).contains(&value);
        let (logprobs, minimum) = (self.logprobs.unwrap_or(0), min_new_tokens as f64);
        let free = min_new_tokens == 0 || self.constraint.is_none();
        let checks = [
            ("temperature", temperature, hot, "between 0.000001 and 3.4e38"),
            ("top_p", top_p, is_share(top_p), share),
            ("min_p", min_p, is_share(min_p), share),
            ("repetition_penalty", repetition_penalty, is_positive(repetition_penalty), POSITIVE),
            ("frequency_penalty", frequency_penalty, is_penalty(frequency_penalty), penalty),
            ("presence_penalty", presence_penalty, is_penalty(presence_penalty), penalty),
            ("max_new_tokens", max_new_tokens as f64, max_new_tokens > 0, "1 or more"),
            ("min_new_tokens", minimum, min_new_tokens <= max_new_tokens, "at most max_new_tokens"),
            ("min_new_tokens", minimum, free, "0 where a constraint says when an answer may end"),
            ("logprobs", logprobs as f64, logprobs <= MOST_LOGPROBS, "at most 20"),
        ];
        if let Some((setting, got, _, expected)) = checks.into_iter().find(|(_, _, right, _)| !right) {
            return Err(Error::OutOfRange { setting, got, expected });
        }
        let empty = |texts: &[String]| texts.iter().any(String::is_empty);
        let lack = |setting: &'static str, lack: &'static str| Err(Error::Empty { setting, lack });
        match &self.constraint {
            _ if empty(&self.stop_strings) => lack("stop_strings", "holds an empty text"),
            Some(Constraint::Choice(texts)) if texts.is_empty() => lack("choice", "names no text"),
            Some(Constraint::Choice(texts)) if empty(texts) => lack("choice", "holds an empty text"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_be_is_named() {
        let named = |options: SamplingOptions| match options.check() {
            Err(Error::OutOfRange { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        SamplingOptions::default().check().unwrap();
        for temperature in [0.0, -1.0, 1e-7, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(named(SamplingOptions { temperature, ..Default::default() }), "temperature");
        }
        let options = SamplingOptions::default;
        assert_eq!(named(SamplingOptions { top_p: 1.5, ..options() }), "top_p");
        assert_eq!(named(SamplingOptions { top_p: f64::NAN, ..options() }), "top_p");
        assert_eq!(named(SamplingOptions { min_p: -0.1, ..options() }), "min_p");
        for repetition_penalty in [0.0, -1.0, 1e-50, 1e-40, 1e39, f64::NAN] {
            assert_eq!(named(SamplingOptions { repetition_penalty, ..options() }), "repetition_penalty");
        }
        assert_eq!(named(SamplingOptions { frequency_penalty: 2.1, ..options() }), "frequency_penalty");
        assert_eq!(named(SamplingOptions { presence_penalty: -2.1, ..options() }), "presence_penalty");
        assert_eq!(named(SamplingOptions { max_new_tokens: 0, ..options() }), "max_new_tokens");
        assert_eq!(named(SamplingOptions { min_new_tokens: 201, ..options() }), "min_new_tokens");
        let constraint = Some(Constraint::Regex("a+".to_owned()));
        assert_eq!(named(SamplingOptions { min_new_tokens: 1, constraint, ..options() }), "min_new_tokens");
        assert_eq!(named(SamplingOptions { logprobs: Some(21), ..options() }), "logprobs");
    }

    #[test]
    fn a_setting_that_holds_nothing_is_named() {
        let message = |options: SamplingOptions| options.check().unwrap_err().to_string();
        let stop_strings = vec!["a".to_owned(), String::new()];
        let options = SamplingOptions { stop_strings, ..Default::default() };
        assert_eq!(message(options), "the setting stop_strings holds an empty text");
        for (texts, expected) in [(vec![], "names no text"), (vec![String::new()], "holds an empty text")] {
            let options =
                SamplingOptions { constraint: Some(Constraint::Choice(texts)), ..Default::default() };
            assert_eq!(message(options), format!("the setting choice {expected}"));
        }
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let error = serde_json::from_str::<SamplingOptions>(r#"{"temprature": 0.5}"#).unwrap_err();
        assert!(error.to_string().contains("temprature"), "{error}");
    }
}
