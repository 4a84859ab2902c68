//! The routes of the Hub: what a model holds, what its files are, and their bytes.

use std::time::Duration;

use collimate_run::{Context, Event};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use ureq::http::header::{self, HeaderMap, HeaderValue};
use ureq::http::uri::{Scheme, Uri};
use ureq::http::{Method, Response};
use ureq::{Agent, Body, Proxy, RequestExt};

use crate::checksum::Checksum;
use crate::error::{HubError, Result};
use crate::id::HubId;
use crate::options::HubOptions;
use crate::patience::{Failure, Patience};

/// What may stand in a part of an address as it is.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Redirects that are followed.
const MOST_REDIRECTS: usize = 8;
/// Bytes of a listing, and of an error, that are read.
const LONGEST_LISTING: u64 = 64 << 20;
const LONGEST_ERROR: u64 = 1 << 16;
/// Characters of a server's message that are shown.
const LONGEST_MESSAGE: usize = 300;

/// What a model holds at a revision.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<String>,
}

/// What the Hub says of a file.
#[derive(Debug, Clone)]
pub(crate) struct FileMetadata {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) checksum: Checksum,
    pub(crate) url: Uri,
}

/// Connections to one Hub, and to the hosts to which it sends for large files.
pub(crate) struct Client<'a> {
    agent: Agent,
    endpoint: Uri,
    token: Option<&'a SecretString>,
    authorization: Option<HeaderValue>,
    pub(crate) options: &'a HubOptions,
    pub(crate) context: &'a Context<'a>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(options: &'a HubOptions, context: &'a Context<'a>) -> Result<Self> {
        let endpoint = parse_endpoint(&options.endpoint)?;
        let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host.parse().map_or(host == "localhost", |ip: std::net::IpAddr| ip.is_loopback());
        let proxy = if is_here { None } else { proxy(options)? };
        let config = Agent::config_builder()
            .proxy(proxy)
            .user_agent(concat!("collimate/", env!("CARGO_PKG_VERSION")))
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(options.timeout))
            .timeout_send_request(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .timeout_per_read(Some(options.timeout))
            .build();
        let authorization = options.token.as_ref().map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let authorization =
            authorization.transpose().map_err(|_: header::InvalidHeaderValue| HubError::TokenFormat)?;
        if authorization.is_some() && endpoint.scheme() == Some(&Scheme::HTTP) && !is_here {
            context.report(Event::Warning("the token goes to HF_ENDPOINT unencrypted: others can read it"));
        }
        Ok(Self {
            agent: config.into(),
            endpoint,
            token: options.token.as_ref(),
            authorization,
            options,
            context,
        })
    }

    /// The commit and the files of a model.
    pub(crate) fn listing(&self, id: &HubId, revision: &str) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let what = format!("model {id} at `{revision}`");
        let url = self.url(&format!("api/models/{id}/revision/{}", encode(revision)))?;
        let answer: Answer = Patience::new(&what, self.options, self.context).until_done(|| {
            let mut response = self.accept(self.send(&Method::GET, &url, 0)?, id, &what)?;
            let body = response.body_mut().with_config().limit(LONGEST_LISTING).read_to_vec();
            let body = body.map_err(|error| of_transport(&error))?;
            let unreadable = |error| self.strange(&url, format!("the list of files cannot be read: {error}"));
            Ok(serde_json::from_slice(&body).map_err(unreadable)?)
        })?;
        if !(40..=64).contains(&answer.sha.len())
            || !answer.sha.bytes().all(|letter| letter.is_ascii_hexdigit())
        {
            return Err(self.strange(&url, "it names no commit".to_owned()));
        }
        let files = answer.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok(Listing { commit: answer.sha, files })
    }

    /// Size and checksum of a file, as the Hub itself says, whoever holds its bytes.
    pub(crate) fn metadata(&self, id: &HubId, commit: &str, name: &str) -> Result<FileMetadata> {
        let path = name.split('/').map(encode).collect::<Vec<_>>().join("/");
        let url = self.url(&format!("{id}/resolve/{commit}/{path}"))?;
        let what = format!("file {name} in {id}");
        let headers = Patience::new(&what, self.options, self.context).until_done(|| {
            let response = self.send(&Method::HEAD, &url, 0)?;
            if response.status().is_redirection() {
                let mut headers = response.headers().clone();
                // Those of the redirect itself.
                headers.remove(header::ETAG);
                headers.remove(header::CONTENT_LENGTH);
                return Ok(headers);
            }
            Ok(self.accept(response, id, &what)?.headers().clone())
        })?;
        let text = |names: [&str; 2]| names.iter().find_map(|name| headers.get(*name)?.to_str().ok());
        if headers.get("x-repo-commit").is_some_and(|said| said != commit) {
            return Err(self.strange(&url, format!("it gives {name} of another commit")));
        }
        let checksum = text(["x-linked-etag", "etag"]).and_then(Checksum::of_tag);
        let size = text(["x-linked-size", "content-length"]).and_then(|size| size.parse().ok());
        // No file system holds more.
        let size = size.filter(|size| i64::try_from(*size).is_ok());
        let (Some(checksum), Some(size)) = (checksum, size) else {
            return Err(self.strange(&url, format!("it says no checksum or no sound size of {name}")));
        };
        Ok(FileMetadata { name: name.to_owned(), size, checksum, url })
    }

    /// The bytes of a file from `from` on; status 200, 206 or 416.
    pub(crate) fn open(&self, file: &FileMetadata, id: &HubId, from: u64) -> Result<Response<Body>, Failure> {
        let response = self.send(&Method::GET, &file.url, from)?;
        if response.status().as_u16() == 416 {
            return Ok(response);
        }
        self.accept(response, id, &format!("file {} in {id}", file.name))
    }

    fn url(&self, path: &str) -> Result<Uri> {
        let text = format!("{}/{path}", self.endpoint.to_string().trim_end_matches('/'));
        text.parse().map_err(|error| {
            self.strange(&self.endpoint, format!("no address can be made of {path} ({error})"))
        })
    }

    /// Follows redirects: a question for the head only as long as the same host answers, as what stands behind
    /// knows nothing of checksums.
    fn send(&self, method: &Method, url: &Uri, from: u64) -> Result<Response<Body>, Failure> {
        let mut url = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send_once(method, &url, from).map_err(|error| of_transport(&error))?;
            let location =
                response.headers().get(header::LOCATION).filter(|_| response.status().is_redirection());
            let Some(location) = location else { return Ok(response) };
            let Some(next) = location.to_str().ok().and_then(|location| join(&url, location)) else {
                return Err(self.strange(&url, "it redirects to an address that is none".to_owned()).into());
            };
            if *method == Method::HEAD
                && (origin(&next) != origin(&url) || response.headers().contains_key("x-linked-etag"))
            {
                return Ok(response);
            }
            if url.scheme() == Some(&Scheme::HTTPS) && next.scheme() != Some(&Scheme::HTTPS) {
                return Err(self.strange(&url, "it redirects to an unencrypted address".to_owned()).into());
            }
            url = next;
        }
        Err(self.strange(&url, format!("it redirects more than {MOST_REDIRECTS} times")).into())
    }

    /// The token goes to the Hub's own host and to no other.
    fn send_once(&self, method: &Method, url: &Uri, from: u64) -> Result<Response<Body>, ureq::Error> {
        // Compressed, the bytes would not be those of the file.
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header(header::ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(authorization) =
            self.authorization.as_ref().filter(|_| origin(url) == origin(&self.endpoint))
        {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(())?.with_agent(&self.agent).run()
    }

    /// Lets successes through and says what everything else means.
    fn accept(
        &self,
        mut response: Response<Body>,
        id: &HubId,
        what: &str,
    ) -> Result<Response<Body>, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let message = self.message(&mut response);
        Err(match status.as_u16() {
            401 | 403 => {
                let (id, with_token) = (id.to_string(), self.authorization.is_some());
                HubError::Refused { id, with_token, message }.into()
            }
            404 | 410 => HubError::NotFound { what: what.to_owned(), message }.into(),
            408 | 425 | 429 | 500.. => Failure::Passing {
                reason: format!("status {}: {message}", status.as_u16()),
                after: retry_after(response.headers()),
            },
            status => HubError::Status { host: host(&self.endpoint), status, message }.into(),
        })
    }

    /// What the Hub says of a failure, in its header or its body, on one line and without the token.
    fn message(&self, response: &mut Response<Body>) -> String {
        let said = response
            .headers()
            .get("x-error-message")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = || {
            let body =
                response.body_mut().with_config().limit(LONGEST_ERROR).lossy_utf8(true).read_to_string();
            let body = body.unwrap_or_default();
            let error = serde_json::from_str::<serde_json::Value>(&body).unwrap_or_default();
            error["error"].as_str().map_or(body, str::to_owned)
        };
        let mut message = said.unwrap_or_else(body);
        if let Some(token) = self.token.map(ExposeSecret::expose_secret).filter(|token| !token.is_empty()) {
            message = message.replace(token, "[token]");
        }
        let words =
            message.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
        let message = words.collect::<Vec<_>>().join(" ");
        match message.char_indices().nth(LONGEST_MESSAGE) {
            _ if message.is_empty() => "it does not say why".to_owned(),
            Some((end, _)) => format!("{} …", &message[..end]),
            None => message,
        }
    }

    pub(crate) fn strange(&self, url: &Uri, reason: String) -> HubError {
        HubError::Strange { host: host(url), reason }
    }
}

/// The proxy, with the hosts for which it is none.
fn proxy(options: &HubOptions) -> Result<Option<Proxy>> {
    let Some(address) = &options.proxy else { return Ok(None) };
    let plain = Proxy::new(address.expose_secret()).map_err(|_| HubError::Proxy)?;
    let mut proxy = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
    if let Some(name) = plain.username() {
        proxy = proxy.username(name);
    }
    if let Some(password) = plain.password() {
        proxy = proxy.password(password);
    }
    for host in &options.no_proxy {
        let host = host.trim_start_matches('.');
        // Both the host and, as curl and Python have it, those below it.
        proxy = proxy.no_proxy(host).no_proxy(&format!(".{host}"));
    }
    proxy.build().map(Some).map_err(|_| HubError::Proxy)
}

/// What the transport met with; all of it may pass.
pub(crate) fn of_transport(error: &ureq::Error) -> Failure {
    Failure::passing(match error {
        ureq::Error::Timeout(_) => "there was no answer in time".to_owned(),
        error => error.to_string(),
    })
}

fn parse_endpoint(text: &str) -> Result<Uri> {
    let shown = if text.contains(['@', '?']) { "what is given" } else { text };
    let wrong = |reason: &str| HubError::Endpoint { endpoint: shown.to_owned(), reason: reason.to_owned() };
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| wrong("it cannot be read"))?;
    let known = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => Err(wrong("it holds a name or password")),
        Some(_) if known && uri.query().is_none() => Ok(uri),
        _ => Err(wrong("it does not begin with http:// or https://, or asks a question")),
    }
}

/// The address to which `location` leads from `url`: a whole one, or a path on the same host.
fn join(url: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    let whole = match location {
        location if location.starts_with("//") => format!("{scheme}:{location}"),
        location if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        location => location.to_owned(),
    };
    let next: Uri = whole.parse().ok()?;
    let known = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&next.scheme());
    (known && next.authority().is_some()).then_some(next)
}

/// Who is asked: two addresses of one origin may be told the same secrets.
fn origin(url: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let usual = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    (url.scheme_str(), url.host().map(str::to_ascii_lowercase), url.port_u16().or(Some(usual)))
}

fn host(url: &Uri) -> String {
    url.authority().map_or_else(|| "the Hub".to_owned(), ToString::to_string)
}

fn encode(part: &str) -> String {
    utf8_percent_encode(part, PART).to_string()
}

/// The wait in seconds that a server asks for.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_asked_but_for_the_hosts_of_no_proxy() {
        let mut options = HubOptions::new("cache".into());
        assert!(proxy(&options).unwrap().is_none());
        options.proxy = Some("http://me:p%40ss@proxy.example:3128".into());
        options.no_proxy = ["mirror.example", ".inside.example", "10.0.0.1"].map(str::to_owned).to_vec();
        let plain = Proxy::new("http://me:p%40ss@proxy.example:3128").unwrap();
        let made = proxy(&options).unwrap().unwrap();
        assert_eq!((made.host(), made.port(), made.uri()), (plain.host(), 3128, plain.uri()));
        assert_eq!((made.username(), made.password()), (plain.username(), plain.password()));
        let is_direct = |host: &str| made.is_no_proxy(&format!("https://{host}/a").parse().unwrap());
        for host in ["mirror.example", "cdn.mirror.example", "inside.example", "a.inside.example", "10.0.0.1"]
        {
            assert!(is_direct(host), "{host}");
        }
        assert!(!is_direct("othermirror.example") && !is_direct("huggingface.co"));
        options.no_proxy = vec!["*".to_owned()];
        let all = proxy(&options).unwrap().unwrap();
        assert!(all.is_no_proxy(&"https://huggingface.co".parse().unwrap()));
    }
}
