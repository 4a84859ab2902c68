//! A server that answers by a script, well or badly, and remembers what it was asked.
#![allow(dead_code, reason = "another crate's tests take it in too, and use a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method and path.
    pub line: String,
    /// The header lines, in lower case up to the colon.
    pub headers: Vec<String>,
    pub body: Value,
}

impl Seen {
    /// The content of the last message, or the prompt.
    pub fn prompt(&self) -> String {
        let last = self.body["messages"].as_array().and_then(|messages| messages.last());
        let prompt = last.map_or(&self.body["prompt"], |message| &message["content"]);
        prompt.as_str().unwrap_or_default().to_owned()
    }
}

/// What the server does with a request: one step after the other, then it hangs up.
#[derive(Debug, Clone, Default)]
pub struct Reply(Vec<Step>);

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// These bytes, with waits between, until the other side hangs up.
    Repeat(Vec<u8>, Duration),
    /// Until the other side hangs up.
    Hang,
}

impl Reply {
    /// Exactly these bytes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![Step::Send(bytes.into())])
    }

    /// A JSON body with a status and further header lines, each with its line break.
    pub fn json(status: u16, headers: &str, body: &Value) -> Self {
        let body = body.to_string();
        Self::raw(format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\
             connection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    /// An error as OpenAI words it.
    pub fn error(status: u16, headers: &str, code: &str, message: &str) -> Self {
        Self::json(status, headers, &json!({"error": {"message": message, "type": code, "code": code}}))
    }

    /// Chat answers of these texts, which took one token a character.
    pub fn chat(texts: &[&str]) -> Self {
        let choice = |(index, text): (usize, &&str)| {
            let message = json!({"role": "assistant", "content": text});
            json!({"index": index, "message": message, "finish_reason": "stop"})
        };
        let choices: Vec<Value> = texts.iter().enumerate().map(choice).collect();
        let tokens: usize = texts.iter().map(|text| text.chars().count()).sum();
        let usage = json!({"prompt_tokens": 10, "completion_tokens": tokens});
        Self::json(200, "", &json!({"choices": choices, "usage": usage}))
    }

    /// The head of a stream of events.
    pub fn events() -> Self {
        Self::raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    }

    pub fn hang() -> Self {
        Self(vec![Step::Hang])
    }

    pub fn wait(wait: Duration) -> Self {
        Self::default().then_wait(wait)
    }

    /// Everything of another reply behind this.
    pub fn then_all(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub fn then(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push(Step::Send(bytes.into()));
        self
    }

    pub fn then_wait(mut self, wait: Duration) -> Self {
        self.0.push(Step::Wait(wait));
        self
    }

    pub fn then_for_ever(mut self, bytes: impl Into<Vec<u8>>, wait: Duration) -> Self {
        self.0.push(Step::Repeat(bytes.into(), wait));
        self
    }

    pub fn then_hang(mut self) -> Self {
        self.0.push(Step::Hang);
        self
    }
}

/// A server on a free port of this machine.
pub struct Server {
    pub base_url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers request number `n` (from 0) with `script(n, request)`.
    pub fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, kept) = (Arc::new(script), seen.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, kept) = (script.clone(), kept.clone());
                // The other side may hang up at any time.
                thread::spawn(move || serve(&stream.unwrap(), &*script, &kept));
            }
        });
        Self { base_url, seen }
    }

    /// Gives these replies one after the other, the last of them for ever.
    pub fn replies(replies: Vec<Reply>) -> Self {
        Self::start(move |number, _| replies[number.min(replies.len() - 1)].clone())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: &TcpStream,
    script: &dyn Fn(usize, &Seen) -> Reply,
    kept: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let line = head.remove(0);
    let lower = |line: &String| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
        None => line.clone(),
    };
    let headers: Vec<String> = head.iter().map(lower).collect();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    lines.read_exact(&mut body)?;
    let seen = Seen { line, headers, body: serde_json::from_slice(&body).unwrap_or_default() };
    let number = {
        let mut kept = kept.lock().unwrap();
        kept.push(seen.clone());
        kept.len() - 1
    };
    for step in script(number, &seen).0 {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes)?,
            Step::Wait(wait) => thread::sleep(wait),
            Step::Repeat(bytes, wait) => loop {
                stream.write_all(&bytes)?;
                thread::sleep(wait);
            },
            Step::Hang => {
                lines.read_to_end(&mut Vec::new())?;
            }
        }
    }
    Ok(())
}
