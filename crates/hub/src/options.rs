//! Where the Hub is, where the cache is, and how long to wait for either.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// What is needed to ask the Hub; the fields are those of the variables of Python's `huggingface_hub`.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// `HF_ENDPOINT`: the Hub, or a mirror with the same routes.
    pub endpoint: String,
    /// `HF_TOKEN`, or what stands in the token file; sent to the endpoint's host alone.
    pub token: Option<SecretString>,
    /// The proxy through which the network is reached.
    pub proxy: Option<SecretString>,
    /// `NO_PROXY`: hosts that are reached without it, with those below them; `*` is all.
    pub no_proxy: Vec<String>,
    /// `HF_HUB_OFFLINE`: the network is not touched.
    pub offline: bool,
    /// `HF_HUB_CACHE`: the folder with `models--org--name/`.
    pub cache: PathBuf,
    /// The longest wait for the next bytes.
    pub timeout: Duration,
    /// How often in a row something may fail without a byte of progress.
    pub attempts: u32,
    /// The wait before the second attempt; each further one is twice as long.
    pub first_wait: Duration,
}

impl HubOptions {
    /// The Hub itself, with no token.
    pub const ENDPOINT: &'static str = "https://huggingface.co";

    /// The Hub with this cache, and waits that suit it.
    pub fn new(cache: PathBuf) -> Self {
        Self {
            endpoint: Self::ENDPOINT.to_owned(),
            token: None,
            proxy: None,
            no_proxy: Vec::new(),
            offline: false,
            cache,
            timeout: Duration::from_secs(20),
            attempts: 6,
            first_wait: Duration::from_secs(1),
        }
    }
}
