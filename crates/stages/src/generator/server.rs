//! A server that answers instead of the built-in engine: its settings, and what they change of a run.

use std::ffi::OsStr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command};
use collimate_generate::{BaseUrl, ServerOptions};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{ModelSettings, SERVER};

/// Which server answers, if one is to, and how hard it may be pressed.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case", next_help_heading = "Server")]
pub struct ServerSettings {
    /// Ask a server with OpenAI's interface, such as http://localhost:8000/v1, instead of the built-in
    /// engine. model_name_or_path is the model's name there; the key, where one is wanted, is OPENAI_API_KEY
    /// in the environment or in a file .env, and is sent to that address. OpenAI itself knows no top_k, which
    /// is then left out.
    #[arg(long, value_name = "URL", group = SERVER, value_parser = Address)]
    pub base_url: Option<BaseUrl>,
    /// Calls under way at once.
    #[arg(long, value_name = "COUNT", default_value_t = ServerOptions::CONCURRENCY, requires = "base_url")]
    pub concurrency: NonZeroUsize,
    /// How long an answer may take; of one that is shown as it is written, how long each silence may last.
    #[arg(long, value_name = "SECONDS", default_value_t = ServerOptions::TIMEOUT.as_secs(),
        requires = "base_url", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub timeout: u64,
    /// How often a call is made again after a failure that may pass.
    #[arg(long, value_name = "COUNT", default_value_t = ServerOptions::MAX_RETRIES, requires = "base_url")]
    pub max_retries: u32,
    /// Calls that are begun in a minute; as many as there are, if not given.
    #[arg(long, value_name = "COUNT", requires = "base_url")]
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens, of prompts and answers, that are used in a minute; as many as it takes, if not given.
    #[arg(long, value_name = "TOKENS", requires = "base_url")]
    pub tokens_per_minute: Option<NonZeroU64>,
    /// Tokens, of prompts and answers, that may be spent from one start of the command on. No call is made
    /// that might pass it, where the length of a prompt is estimated until the server has counted it; what
    /// was answered until then is kept.
    #[arg(long, value_name = "TOKENS", requires = "base_url")]
    pub max_total_tokens: Option<u64>,
}

/// Reads an address. What is wrong with one is said without the words that were given: they may hold a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address;

impl TypedValueParser for Address {
    type Value = BaseUrl;

    fn parse_ref(
        &self,
        command: &Command,
        _argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<BaseUrl, clap::Error> {
        value.to_string_lossy().parse().map_err(|error| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")).with_cmd(command)
        })
    }
}

impl ServerSettings {
    /// Whether a server answers, and not the built-in engine.
    pub fn is_asked(&self) -> bool {
        self.base_url.is_some()
    }

    /// The names of settings that say how a server is asked, where they are not the defaults.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let given = [
            ("concurrency", self.concurrency != ServerOptions::CONCURRENCY),
            ("timeout", self.timeout != ServerOptions::TIMEOUT.as_secs()),
            ("max_retries", self.max_retries != ServerOptions::MAX_RETRIES),
            ("requests_per_minute", self.requests_per_minute.is_some()),
            ("tokens_per_minute", self.tokens_per_minute.is_some()),
            ("max_total_tokens", self.max_total_tokens.is_some()),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }

    /// What they mean to a client; none where no server is asked.
    pub(crate) fn options(
        &self,
        model: &ModelSettings,
        api_key: Option<&SecretString>,
    ) -> Option<ServerOptions> {
        let base_url = self.base_url.as_ref()?.to_string();
        Some(ServerOptions {
            api_key: api_key.cloned(),
            concurrency: self.concurrency,
            timeout: Duration::from_secs(self.timeout),
            max_retries: self.max_retries,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            max_total_tokens: self.max_total_tokens,
            ..ServerOptions::new(&base_url, &model.model_name_or_path.to_string_lossy())
        })
    }

    /// The model as an input of a run; none where the server has it.
    pub(crate) fn input<'a>(&self, model: &'a ModelSettings) -> Option<&'a Path> {
        (!self.is_asked()).then_some(model.model_name_or_path.as_path())
    }

    /// The model as a manifest keeps it, besides the input: all that changes an answer.
    pub(crate) fn described(&self, model: &ModelSettings) -> Map<String, Value> {
        match &self.base_url {
            Some(url) => Map::from_iter([
                ("base_url".to_owned(), json!(url)),
                ("model_name_or_path".to_owned(), json!(model.model_name_or_path)),
            ]),
            None => {
                let ModelSettings { dtype, quantising, .. } = model;
                let mut described = Map::from_iter([("dtype".to_owned(), json!(dtype))]);
                described.append(&mut quantising.described());
                described
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};
    use collimate_engine::Dtype;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::quantising::Quantising;

    fn options(words: &str) -> Option<ServerOptions> {
        let command = ServerSettings::augment_args(Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(words.split_whitespace()).unwrap();
        let settings = ServerSettings::from_arg_matches(&matches).unwrap();
        let quantising = Quantising::default();
        let model =
            ModelSettings { model_name_or_path: "org/model".into(), dtype: Dtype::Float32, quantising };
        settings.options(&model, Some(&"key".into()))
    }

    #[test]
    fn defaults_are_those_of_the_client() {
        assert!(options("").is_none());
        let found = options("--base_url http://a/v1").unwrap();
        let expected =
            ServerOptions { api_key: Some("key".into()), ..ServerOptions::new("http://a/v1", "org/model") };
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        assert_eq!(found.api_key.unwrap().expose_secret(), "key");
    }

    #[test]
    fn every_setting_arrives() {
        let words = "--base_url http://a/v1 --concurrency 2 --timeout 3 --max_retries 4 \
                     --requests_per_minute 5 --tokens_per_minute 6 --max_total_tokens 7";
        let expected = ServerOptions {
            api_key: Some("key".into()),
            concurrency: NonZeroUsize::new(2).unwrap(),
            timeout: Duration::from_secs(3),
            max_retries: 4,
            requests_per_minute: NonZeroU32::new(5),
            tokens_per_minute: NonZeroU64::new(6),
            max_total_tokens: Some(7),
            ..ServerOptions::new("http://a/v1", "org/model")
        };
        assert_eq!(format!("{:?}", options(words).unwrap()), format!("{expected:?}"));
    }
}
