//! A Hub on this machine, with a second host that holds the large files; either may be told to misbehave.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use collimate_hub::{Fetched, HubError, HubOptions, Request, fetch};
use collimate_run::{Context, RunOptions, Silent};
use serde_json::json;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::scripted::{Reply, Seen, Server};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const TOKEN: &str = "hf_secret";

/// Files of a model; those with weights are large.
pub type Files = Vec<(String, Vec<u8>)>;

pub fn model() -> Files {
    let weights: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    [
        ("config.json", b"{}\n".to_vec()),
        ("tokenizer.json", b"{\"a\": 1}\n".to_vec()),
        ("model.safetensors", weights),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .to_vec()
}

/// The Hub and the host of its large files.
pub struct Hub {
    pub hub: Server,
    pub store: Server,
}

impl Hub {
    /// A Hub that behaves.
    pub fn start(files: Files) -> Self {
        Self::with(files, |_, _| None, |_, _| None)
    }

    /// The Hub is sound, and `store` may answer request number `n` in the place of the host of its large files.
    pub fn damaged(store: impl Fn(usize, &Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::with(model(), |_, _| None, store)
    }

    /// Before the Hub answers request number `n`, `hub` may answer in its place; `store` before the other host.
    pub fn with(
        files: Files,
        hub: impl Fn(usize, &Seen) -> Option<Reply> + Send + Sync + 'static,
        store: impl Fn(usize, &Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let held = files.clone();
        let store = Server::start(move |number, seen| {
            store(number, seen).unwrap_or_else(|| part(find(&held, seen), seen))
        });
        let other = origin(&store);
        let hub = Server::start(move |number, seen| {
            hub(number, seen).unwrap_or_else(|| {
                if seen.line.contains("/api/models/org/name/revision/") {
                    listing(&files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
                } else if is_large(&seen.line) {
                    large(find(&files, seen), &other, seen)
                } else {
                    let bytes = find(&files, seen);
                    let tag = git(bytes);
                    head(200, &format!("etag: \"{tag}\"\r\n"), bytes.len(), seen, bytes)
                }
            })
        });
        Self { hub, store }
    }

    pub fn options(&self, cache: &Path) -> HubOptions {
        HubOptions {
            endpoint: origin(&self.hub),
            token: Some(TOKEN.into()),
            timeout: Duration::from_millis(400),
            attempts: 3,
            first_wait: Duration::from_millis(10),
            ..HubOptions::new(cache.to_owned())
        }
    }

    pub fn fetch(&self, cache: &Path) -> Result<Fetched, HubError> {
        run(&request(), &self.options(cache))
    }
}

pub fn request() -> Request {
    Request {
        id: "org/name".parse().unwrap(),
        revision: "main".to_owned(),
        include: Vec::new(),
        local_dir: None,
    }
}

pub fn run(request: &Request, options: &HubOptions) -> Result<Fetched, HubError> {
    let interrupted = AtomicBool::new(false);
    let runner = RunOptions::new(&Silent, &interrupted);
    fetch(request, options, &Context::new(&options.cache, &runner, false))
}

pub fn origin(server: &Server) -> String {
    server.base_url.trim_end_matches("/v1").to_owned()
}

pub fn listing(names: &[&str]) -> Reply {
    let siblings: Vec<_> = names.iter().map(|name| json!({"rfilename": name})).collect();
    Reply::json(200, "", &json!({"id": "org/name", "sha": COMMIT, "siblings": siblings}))
}

/// Sends to the other host, with what the Hub alone knows.
pub fn large(bytes: &[u8], other: &str, seen: &Seen) -> Reply {
    let (tag, size) = (sha256(bytes), bytes.len());
    let path = seen.line.split(' ').nth(1).unwrap();
    let headers = format!(
        "location: {other}{path}?signed=yes\r\nx-linked-etag: \"{tag}\"\r\nx-linked-size: {size}\r\netag: \"other\"\r\n"
    );
    head(302, &headers, 0, seen, b"")
}

/// The bytes that were asked for, or all.
pub fn part(bytes: &[u8], seen: &Seen) -> Reply {
    match from(seen) {
        0 => head(200, "", bytes.len(), seen, bytes),
        from if from >= bytes.len() => head(416, "", 0, seen, b""),
        from => {
            let range = format!("content-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            head(206, &range, bytes.len() - from, seen, &bytes[from..])
        }
    }
}

pub fn head(status: u16, headers: &str, length: usize, seen: &Seen, body: &[u8]) -> Reply {
    let head = format!(
        "HTTP/1.1 {status} X\r\nx-repo-commit: {COMMIT}\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n"
    );
    let reply = Reply::raw(head);
    if seen.line.starts_with("HEAD") { reply } else { reply.then(body) }
}

/// From which byte on the file was asked for.
pub fn from(seen: &Seen) -> usize {
    let range = seen.headers.iter().find_map(|line| line.strip_prefix("range: bytes="));
    range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
}

pub fn is_large(line: &str) -> bool {
    line.contains(".safetensors ") || line.contains(".gguf ")
}

pub fn has_token(seen: &Seen) -> bool {
    seen.headers.iter().any(|line| line.starts_with("authorization:"))
}

fn find<'a>(files: &'a Files, seen: &Seen) -> &'a [u8] {
    let path = seen.line.split([' ', '?']).nth(1).unwrap();
    let name = path.split_once(COMMIT).unwrap().1.trim_start_matches('/');
    &files.iter().find(|(known, _)| known == name).unwrap().1
}

pub fn git(bytes: &[u8]) -> String {
    hexadecimal(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
