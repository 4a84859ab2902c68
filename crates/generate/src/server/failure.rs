//! What a call that failed means: for all requests, for its own, or only for now.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use ureq::Timeout;
use ureq::http::{HeaderMap, StatusCode};

use super::error::ServerError;
use super::retry::retry_after;

/// Characters of a server's message that are shown.
const LONGEST_MESSAGE: usize = 400;

/// Why a call gave no answer.
#[derive(Debug)]
pub enum Failure {
    /// No other request would fare better.
    Fatal(ServerError),
    /// This request will never be answered.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The server lets nobody in with this key, or forbids this request.
    Unauthorised {
        /// 401 or 403.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The model or the address is not known.
    NotFound {
        /// What the server said.
        message: String,
    },
    /// It may go better the next time.
    Passing(Passing),
}

/// A failure that may pass.
#[derive(Debug, Default)]
pub struct Passing {
    /// What happened, as the end of a sentence.
    pub reason: String,
    /// The wait that the server asks for, of everybody.
    pub after: Option<Duration>,
    /// Nobody was reached.
    pub unreachable: bool,
    /// The server may have worked, and may ask money for it, although its answer did not arrive.
    pub charged: bool,
}

impl Failure {
    /// An answer of the server that is lost or of no use.
    pub fn spoilt(reason: String) -> Self {
        Self::Passing(Passing { reason, charged: true, ..Passing::default() })
    }

    fn late() -> Self {
        Self::spoilt("there was no answer in time".to_owned())
    }

    /// A success that cannot be read, or in whose stead the server reports an error.
    pub fn unreadable(data: &str, error: &serde_json::Error, key: Option<&str>) -> Self {
        Self::spoilt(match serde_json::from_str::<Value>(data) {
            Ok(value) if value.get("error").is_some() => {
                format!("the server reported an error: {}", server_message(data, key))
            }
            // The parser repeats what it stumbles over.
            _ => format!("the answer could not be read ({})", server_message(&error.to_string(), key)),
        })
    }

    /// What the client met with on the way to the server and back.
    pub fn of_transport(error: ureq::Error) -> Self {
        let reached = match &error {
            ureq::Error::Timeout(timeout) => !matches!(timeout, Timeout::Resolve | Timeout::Connect),
            // The second is how a failure of TLS comes, such as an unknown certificate.
            ureq::Error::Io(error) => {
                !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::InvalidData)
            }
            _ => true,
        };
        match error {
            ureq::Error::Timeout(_) if reached => Self::late(),
            ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => Self::late(),
            ureq::Error::Io(error) if reached => Self::spoilt(format!("the connection broke ({error})")),
            ureq::Error::BodyExceedsLimit(limit) => {
                Self::spoilt(format!("the answer was larger than {limit} bytes"))
            }
            ureq::Error::Protocol(error) => Self::spoilt(format!("the answer was not HTTP ({error})")),
            error => {
                let reason = error.to_string();
                Self::Passing(Passing { reason, unreachable: true, ..Passing::default() })
            }
        }
    }

    /// What a status other than success means, with what came along.
    pub fn of_status(url: &str, reply: &Reply<'_>) -> Self {
        let status = reply.status.as_u16();
        let text = || server_message(&reply.body, reply.key);
        match status {
            401 | 403 => Self::Unauthorised { status, message: text() },
            404 => Self::NotFound { message: text() },
            402 => Self::Fatal(ServerError::Quota { message: text() }),
            429 if reply.says("insufficient_quota") => Self::Fatal(ServerError::Quota { message: text() }),
            300..=399 => Self::Fatal(ServerError::Redirected { url: url.to_owned(), to: reply.points_to() }),
            408 | 409 | 429 | 500.. => Self::Passing(Passing {
                reason: format!("the server answered with status {status}: {}", text()),
                after: retry_after(&reply.headers, SystemTime::now()),
                ..Passing::default()
            }),
            _ => Self::Refused { status, message: text() },
        }
    }
}

/// An answer that is not one.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body.
    pub body: String,
    /// The key that was sent.
    pub key: Option<&'a str>,
}

impl Reply<'_> {
    /// Whether the error is of this type or has this code.
    fn says(&self, what: &str) -> bool {
        let parsed = serde_json::from_str::<Value>(&self.body).unwrap_or_default();
        ["/error/type", "/error/code"].iter().any(|place| parsed.pointer(place).is_some_and(|it| it == what))
    }

    /// Where a redirect goes, without what may be secret in it.
    fn points_to(&self) -> String {
        let location =
            self.headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or("nowhere");
        let address = location.split(['?', '#']).next().unwrap_or_default();
        address.chars().take(LONGEST_MESSAGE).collect()
    }
}

/// What a server says, in at most [`LONGEST_MESSAGE`] characters on one line, and without the key, which some
/// repeat: the message of an error object in the forms of OpenAI, vLLM and FastAPI, else the body as it is.
pub fn server_message(body: &str, key: Option<&str>) -> String {
    let parsed = serde_json::from_str::<Value>(body).unwrap_or_default();
    let places = ["/error/message", "/message", "/error", "/detail"];
    let found = places.iter().find_map(|place| parsed.pointer(place)?.as_str());
    let mut message = found.unwrap_or(body).to_owned();
    if let Some(key) = key.filter(|key| !key.is_empty()) {
        message = message.replace(key, "[key]");
    }
    let words = message.split(|c: char| c.is_whitespace() || c.is_control());
    let message = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match message.char_indices().nth(LONGEST_MESSAGE) {
        _ if message.is_empty() => "it does not say why".to_owned(),
        Some((end, _)) => format!("{} …", &message[..end]),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_every_form_and_bounded() {
        let message = |body: &str| server_message(body, Some("sk-secret"));
        assert_eq!(message(r#"{"error": {"message": "too\nlong", "type": "x"}}"#), "too long");
        assert_eq!(message(r#"{"object": "error", "message": "no"}"#), "no");
        assert_eq!(message(r#"{"detail": "Not Found"}"#), "Not Found");
        assert_eq!(message("<html>\u{1b}[31m Bad  Gateway"), "<html> [31m Bad Gateway");
        assert_eq!(message(""), "it does not say why");
        assert_eq!(message("wrong key sk-secret"), "wrong key [key]");
        assert_eq!(message(&"é".repeat(999)).chars().count(), LONGEST_MESSAGE + 2);
    }

    #[test]
    fn a_status_means_the_end_a_refusal_or_another_attempt() {
        let of = |status, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let reply = Reply { status, headers: HeaderMap::new(), body: body.to_owned(), key: None };
            Failure::of_status("http://x/v1", &reply)
        };
        for status in [402, 301, 307] {
            assert!(matches!(of(status, ""), Failure::Fatal(_)), "{status}");
        }
        for status in [400, 413, 422] {
            assert!(matches!(of(status, ""), Failure::Refused { .. }), "{status}");
        }
        for status in [408, 409, 429, 500, 503, 529] {
            assert!(matches!(of(status, ""), Failure::Passing(_)), "{status}");
        }
        for status in [401, 403] {
            assert!(matches!(of(status, ""), Failure::Unauthorised { .. }), "{status}");
        }
        let quota = r#"{"error": {"message": "pay", "code": "insufficient_quota"}}"#;
        assert!(matches!(of(429, quota), Failure::Fatal(ServerError::Quota { message }) if message == "pay"));
    }
}
