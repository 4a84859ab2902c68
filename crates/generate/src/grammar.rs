//! A constraint at work: which tokens may come next, so that the answer fits when it ends.
//!
//! The work is done by `llguidance`, in which vLLM and llama.cpp constrain output too. JSON is written as Python's
//! `json.dumps` writes it or without its spaces: between two tokens of JSON at most one space may stand, so that no
//! answer is filled up with blanks.

use std::fmt;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::SimpleVob;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::{Value, json};

use collimate_model::Tokenizer;

use crate::vocabulary::Vocabulary;
use crate::{Constraint, Error, Result};

/// What an answer has to be from here on.
pub(crate) struct Grammar(Matcher);

impl Grammar {
    /// The whole of what an answer must be, which `end_ids` may end.
    ///
    /// # Errors
    /// A constraint that is not understood, or that no text meets; a tokenizer that does not write token by token.
    pub fn compile(constraint: &Constraint, tokenizer: &Tokenizer, end_ids: &[u32]) -> Result<Self> {
        let vocabulary = Vocabulary::new(tokenizer, end_ids)?.into_environment();
        let mut factory = ParserFactory::new_simple(&vocabulary).map_err(|error| invalid(&error))?;
        factory.quiet().limits_mut().verbose_errors = false;
        let parser = factory.create_parser(rules(constraint)).map_err(|error| {
            let reason = reason(&error);
            let unmet = reason.contains("Unsatisfiable");
            if unmet { Error::UnmetConstraint { reason } } else { Error::InvalidConstraint { reason } }
        })?;
        let mut grammar = Self(Matcher::new(Ok(parser)));
        // Whether anything can be written at all; all answers begin with what is computed here.
        grammar.allowed()?;
        Ok(grammar)
    }

    /// Another one in the same place that shares nothing with it: masks of several answers are computed at once, and
    /// what one of them uses up or fails at is no matter of the others. (Clones by `llguidance` share a lexer.)
    pub fn fork(&self) -> Self {
        Self(self.0.deep_clone())
    }

    /// The tokens that may come next, as bits; end tokens, if the answer may end here.
    pub fn allowed(&mut self) -> Result<SimpleVob> {
        self.0.compute_mask().map_err(|error| Error::UnmetConstraint { reason: reason(&error) })
    }

    /// Goes on by a token, which must be allowed; whether the answer is complete, and nothing may follow.
    pub fn accept(&mut self, token: u32) -> Result<bool> {
        self.0.consume_token(token).map_err(|error| Error::UnmetConstraint { reason: reason(&error) })?;
        Ok(self.0.is_stopped())
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Grammar").finish_non_exhaustive()
    }
}

fn rules(constraint: &Constraint) -> TopLevelGrammar {
    match constraint {
        Constraint::Json(schema) => {
            let mut schema = if schema.is_object() { schema.clone() } else { json!({ "allOf": [schema] }) };
            let spaces =
                JsonCompileOptions { whitespace_pattern: Some(" ".to_owned()), ..Default::default() };
            spaces.apply_to(&mut schema);
            TopLevelGrammar::from_json_schema(schema)
        }
        Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
        Constraint::Choice(texts) => {
            // Strings are written as in JSON there.
            let texts: Vec<String> =
                texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
            TopLevelGrammar::from_lark(format!("start: CHOICE\nCHOICE: {}", texts.join(" | ")))
        }
    }
}

fn invalid(error: &anyhow::Error) -> Error {
    Error::InvalidConstraint { reason: reason(error) }
}

/// What went wrong, without the parser's state.
fn reason(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.split("\n<").next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_befalls_one_answer_is_no_matter_of_the_others() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/tokenizer/bytes");
        let tokenizer = Tokenizer::from_folder(&folder).unwrap();
        let constraint = Constraint::Regex("[a-c]+".to_owned());
        let whole = Grammar::compile(&constraint, &tokenizer, tokenizer.eos_ids()).unwrap();
        let (mut failing, mut other) = (whole.fork(), whole.fork());
        assert!(failing.0.test_trigger_lexer_error().is_err() && failing.allowed().is_err());
        assert_eq!(other.allowed().unwrap(), whole.fork().allowed().unwrap());
    }
}
