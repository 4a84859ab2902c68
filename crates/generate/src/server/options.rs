//! A server before it is asked: where it is, what it understands, how hard it may be pressed.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use secrecy::SecretString;

/// Where a server is and how it is to be used.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// What `/chat/completions` is added to, as in `https://api.openai.com/v1` or `http://localhost:8000/v1`.
    pub base_url: String,
    /// The model, by the server's name for it; an adapter of a request takes its place.
    pub model: String,
    /// The key; no error, event or log shows it.
    pub api_key: Option<SecretString>,
    /// What the server understands beyond OpenAI's interface.
    pub dialect: Dialect,
    /// A proxy as `http://user:password@host:port`; the environment is not asked for one.
    pub proxy: Option<SecretString>,
    /// Calls under way at once, those that wait for their next attempt included.
    pub concurrency: NonZeroUsize,
    /// How long an answer may take; of one that is wanted piece by piece, how long each silence may last.
    pub timeout: Duration,
    /// How often a request is sent again after failures that may pass.
    pub max_retries: u32,
    /// The wait before the first retry; it doubles with each further one, up to
    /// [`ServerOptions::longest_backoff`].
    pub backoff: Duration,
    /// The longest wait before a retry, unless the server asks for a longer one.
    pub longest_backoff: Duration,
    /// Calls that are begun in a minute, evenly.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens, of prompts and answers, that are used in a minute, evenly.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// Tokens, of prompts and answers, that may be spent by all calls of a generator. No call is begun that
    /// might pass it with the longest answers allowed; the length of a prompt is estimated until the server
    /// has counted it.
    pub max_total_tokens: Option<u64>,
    /// The largest answer that is read, in bytes.
    pub max_response_bytes: u64,
}

impl ServerOptions {
    /// Calls under way at once, where nothing else is said.
    pub const CONCURRENCY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);
    /// How long an answer may take, where nothing else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(600);
    /// How often a request is sent again, where nothing else is said.
    pub const MAX_RETRIES: u32 = 6;

    /// A server without key or limits.
    pub fn new(base_url: &str, model: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            model: model.to_owned(),
            api_key: None,
            dialect: Dialect::of(base_url),
            proxy: None,
            concurrency: Self::CONCURRENCY,
            timeout: Self::TIMEOUT,
            max_retries: Self::MAX_RETRIES,
            backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(60),
            requests_per_minute: None,
            tokens_per_minute: None,
            max_total_tokens: None,
            max_response_bytes: 64 << 20,
        }
    }
}

/// What a server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's interface. `top_k` cannot be said in it and is left out; whatever else it does not know is
    /// sent where it is asked for, so that the server refuses it instead of answering as if it had not been.
    OpenAi,
    /// vLLM's, which SGLang's and that of llama.cpp's server are close to: with `top_k`, `min_p` and
    /// repetition penalty, always sent in full, because such a server fills gaps from the model's
    /// `generation_config.json`.
    Vllm,
}

impl Dialect {
    /// OpenAI's own server speaks its own, all others are taken to understand vLLM's.
    pub fn of(base_url: &str) -> Self {
        let (_, rest) = base_url.split_once("://").unwrap_or(("", base_url));
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        if host.eq_ignore_ascii_case("api.openai.com") { Self::OpenAi } else { Self::Vllm }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openai_itself_speaks_no_more_than_its_own() {
        for base_url in ["https://api.openai.com/v1", "https://API.openai.com:443/v1", "api.openai.com"] {
            assert_eq!(Dialect::of(base_url), Dialect::OpenAi, "{base_url}");
        }
        for base_url in
            ["http://localhost:8000/v1", "https://api.openai.com.example/v1", "http://x/api.openai.com"]
        {
            assert_eq!(Dialect::of(base_url), Dialect::Vllm, "{base_url}");
        }
    }
}
