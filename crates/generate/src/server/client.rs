//! One call: a request sent, its answer read, whole or piece by piece.

use std::io::BufReader;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use ureq::http::Response;
use ureq::http::header::{self, HeaderValue, InvalidHeaderValue};
use ureq::{Agent, Body, Proxy};

use super::base_url::BaseUrl;
use super::error::ServerError;
use super::failure::{Failure, Reply};
use super::options::ServerOptions;
use super::response::{Chunk, Drafts};
use super::stream::Events;

/// The longest that setting up a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an error that are read.
const LONGEST_ERROR: u64 = 1 << 16;

/// A call to be made.
#[derive(Debug)]
pub struct Call {
    /// What is added to the base URL.
    pub path: &'static str,
    /// What is sent.
    pub body: Value,
    /// Samples asked for.
    pub samples: usize,
    /// Whether the answer comes in pieces.
    pub stream: bool,
}

/// Connections to one server.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    base_url: BaseUrl,
    api_key: Option<SecretString>,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    max_response_bytes: u64,
}

impl Client {
    /// A client that follows no redirect and takes no proxy from the environment.
    ///
    /// # Errors
    /// [`ServerError::BaseUrl`], [`ServerError::KeyFormat`], [`ServerError::Proxy`].
    pub fn new(options: &ServerOptions) -> Result<Self, ServerError> {
        let base_url = options.base_url.parse()?;
        let proxy = options.proxy.as_ref().map(|proxy| Proxy::new(proxy.expose_secret())).transpose();
        let config = Agent::config_builder()
            .proxy(proxy.map_err(|_| ServerError::Proxy)?)
            .user_agent(concat!("collimate/", env!("CARGO_PKG_VERSION")))
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(options.timeout.min(CONNECT_TIMEOUT)))
            .max_idle_connections(options.concurrency.get())
            .max_idle_connections_per_host(options.concurrency.get())
            .build();
        let authorization = options.api_key.as_ref().map(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let authorization =
            authorization.transpose().map_err(|_: InvalidHeaderValue| ServerError::KeyFormat)?;
        Ok(Self {
            agent: config.into(),
            base_url,
            api_key: options.api_key.clone(),
            authorization,
            timeout: options.timeout,
            max_response_bytes: options.max_response_bytes,
        })
    }

    /// Whether the key can be read on its way.
    pub fn exposes_key(&self) -> bool {
        self.api_key.is_some() && self.base_url.is_exposed()
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// Makes a call. Of an answer in pieces each text goes to `piece` with its sample's index, once it is
    /// there; `piece` says whether anybody still listens.
    ///
    /// # Errors
    /// What stands in the way of the answer.
    pub fn make(&self, call: &Call, piece: &mut dyn FnMut(usize, &str) -> bool) -> Result<Drafts, Failure> {
        let url = self.url(call.path);
        let mut response = self.send(&url, call).map_err(Failure::of_transport)?;
        if !response.status().is_success() {
            let body =
                response.body_mut().with_config().limit(LONGEST_ERROR).lossy_utf8(true).read_to_string();
            let reply = Reply {
                status: response.status(),
                headers: response.headers().clone(),
                // The status alone says enough where the rest is lost.
                body: body.unwrap_or_default(),
                key: self.key(),
            };
            return Err(Failure::of_status(&url, &reply));
        }
        let mut drafts = Drafts::default();
        if call.stream {
            self.read_pieces(response, call.samples, &mut drafts, piece)?;
        } else {
            let limited = response.body_mut().with_config().limit(self.max_response_bytes);
            let body = limited.read_to_vec().map_err(Failure::of_transport)?;
            drafts.add(self.parse(&body)?);
        }
        Ok(drafts)
    }

    fn send(&self, url: &str, call: &Call) -> Result<Response<Body>, ureq::Error> {
        let config = self.agent.post(url).config();
        let config = if call.stream {
            config
                .timeout_send_request(Some(self.timeout))
                .timeout_send_body(Some(self.timeout))
                .timeout_recv_response(Some(self.timeout))
                .timeout_per_read(Some(self.timeout))
        } else {
            config.timeout_global(Some(self.timeout))
        };
        let mut request = config.build().header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.send(call.body.to_string())
    }

    fn read_pieces(
        &self,
        response: Response<Body>,
        samples: usize,
        drafts: &mut Drafts,
        piece: &mut dyn FnMut(usize, &str) -> bool,
    ) -> Result<(), Failure> {
        let reader = response.into_body().into_with_config().limit(self.max_response_bytes).reader();
        for event in Events::new(BufReader::new(reader), self.timeout) {
            match event {
                Ok(data) => {
                    let chunk = self.parse(&data)?;
                    if chunk.texts().any(|(index, text)| !piece(index, text)) {
                        // Hanging up lets the server stop, too.
                        return Err(Failure::spoilt("nobody waits for the answer any more".to_owned()));
                    }
                    drafts.add(chunk);
                }
                // Only the count of the tokens can be missing.
                Err(_) if drafts.complete(samples) => break,
                Err(error) => return Err(Failure::of_transport(error.into())),
            }
        }
        Ok(())
    }

    fn parse(&self, data: &[u8]) -> Result<Chunk, Failure> {
        let unreadable = |error| Failure::unreadable(&String::from_utf8_lossy(data), &error, self.key());
        serde_json::from_slice(data).map_err(unreadable)
    }

    fn key(&self) -> Option<&str> {
        self.api_key.as_ref().map(ExposeSecret::expose_secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_two_lines_is_refused_and_not_shown() {
        let api_key = Some(SecretString::from("sk-secret\nmore"));
        let options = ServerOptions { api_key, ..ServerOptions::new("http://localhost/v1", "base") };
        let error = Client::new(&options).unwrap_err();
        assert!(matches!(error, ServerError::KeyFormat) && !format!("{options:?}").contains("sk-secret"));
    }
}
