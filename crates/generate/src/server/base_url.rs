//! The address of a server, checked before anything is sent there.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use ureq::http::uri::{InvalidUri, Scheme, Uri};

use super::error::ServerError;

/// What paths such as `/chat/completions` are added to, as in `https://api.openai.com/v1`. It holds no name,
/// password or query, any of which may be a key: it can be shown and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Uri);

impl BaseUrl {
    /// Whether what is sent there can be read on the way: it is not encrypted, and leaves this machine.
    pub fn is_exposed(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let address = host.parse().map(|address: IpAddr| address.is_loopback());
        self.0.scheme() == Some(&Scheme::HTTP) && !address.unwrap_or(host.eq_ignore_ascii_case("localhost"))
    }
}

impl FromStr for BaseUrl {
    type Err = ServerError;

    /// # Errors
    /// [`ServerError::BaseUrl`], which shows nothing that may be a key.
    fn from_str(text: &str) -> Result<Self, ServerError> {
        let wrong = |reason: &str| ServerError::BaseUrl { base_url: shown(text), reason: reason.to_owned() };
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(wrong("it does not begin with http:// or https://"));
        }
        let uri: Uri = text.parse().map_err(|error: InvalidUri| wrong(&error.to_string()))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("it holds a name or password; the key has a setting of its own"));
        }
        if text.contains(['?', '#']) {
            return Err(wrong("paths are added to it, so it cannot end in a question or a fragment"));
        }
        Ok(Self(uri))
    }
}

/// An address without what may be secret in it.
fn shown(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    match text.split_once("://") {
        // What stands before an @ may be a password, and may hold any character.
        _ if text.contains('@') => "what is given".to_owned(),
        Some(_) if end < text.len() => format!("{}…", &text[..end]),
        _ => text[..end].to_owned(),
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl Serialize for BaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_is_refused_without_its_secrets() {
        for (address, part) in [
            ("localhost:8000/v1", "http://"),
            ("ftp://localhost/v1", "http://"),
            ("", "http://"),
            ("http:// /v1", "is not the address"),
            ("http://me:sk-secret@localhost/v1", "password"),
            ("http://me:sk-secret?@localhost/v1", "is not the address"),
            ("http://localhost/v1?key=sk-secret", "http://localhost/v1… is not the address"),
            ("http://localhost/v1?key=a@sk-secret", "question"),
            ("localhost/v1?key=sk-secret", "http://"),
            ("http://localhost/v1#sk-secret", "fragment"),
        ] {
            let error = address.parse::<BaseUrl>().unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("sk-secret"), "{error}");
        }
    }

    #[test]
    fn only_what_leaves_the_machine_unencrypted_is_exposed() {
        let exposed = |text: &str| text.parse::<BaseUrl>().unwrap().is_exposed();
        for address in ["http://a.example/v1", "HTTP://10.0.0.1:8000", "http://[2001:db8::1]/v1"] {
            assert!(exposed(address), "{address}");
        }
        for address in ["https://a.example/v1", "http://LOCALHOST:1", "http://127.0.0.9/v1", "http://[::1]:1"]
        {
            assert!(!exposed(address), "{address}");
        }
    }

    #[test]
    fn it_is_shown_as_paths_are_added_to_it() {
        for (text, expected) in
            [("http://a", "http://a"), ("http://a/", "http://a"), ("https://a:1/v1/", "https://a:1/v1")]
        {
            assert_eq!(text.parse::<BaseUrl>().unwrap().to_string(), expected);
        }
    }
}
