//! Answers that come in pieces: server-sent events, read line by line.

use std::io::{self, BufRead, ErrorKind};
use std::time::{Duration, Instant};

/// What ends a stream of OpenAI's interface.
const DONE: &[u8] = b"[DONE]";

/// The data of the events of a stream, up to its end or `[DONE]`.
///
/// Lines are cut at their ends and not decoded here, so that it does not matter where the network cuts them.
/// Other fields than `data`, and comments, are passed over; they break no silence, since servers send them only to
/// keep a connection open.
///
/// Source: WHATWG, HTML, section 9.2.6 (a line break alone is not taken for one: no server sends it).
pub struct Events<R> {
    reader: R,
    /// How long the next event may be on its way, beside one wait of the reader.
    patience: Duration,
}

impl<R: BufRead> Events<R> {
    /// The events of `reader`, each of which comes within `patience`.
    pub fn new(reader: R, patience: Duration) -> Self {
        Self { reader, patience }
    }

    /// The next line without its end; none at the end of the stream, where half a line counts as none.
    fn line(&mut self, since: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            if since.elapsed() > self.patience {
                return Err(ErrorKind::TimedOut.into());
            }
            let arrived = self.reader.fill_buf()?;
            if arrived.is_empty() {
                return Ok(None);
            }
            let end = arrived.iter().position(|&byte| byte == b'\n');
            line.extend_from_slice(&arrived[..end.unwrap_or(arrived.len())]);
            let taken = end.map_or(arrived.len(), |end| end + 1);
            self.reader.consume(taken);
            if end.is_some() {
                line.pop_if(|last| *last == b'\r');
                return Ok(Some(line));
            }
        }
    }

    /// The data of the next event.
    fn event(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut data, since) = (Vec::new(), Instant::now());
        while let Some(line) = self.line(since)? {
            match line.strip_prefix(b"data:") {
                Some(value) => {
                    if !data.is_empty() {
                        data.push(b'\n');
                    }
                    data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                }
                None if line.is_empty() && !data.is_empty() => {
                    return Ok(Some(data).filter(|data| data != DONE));
                }
                None => {}
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Events<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.event().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    /// Gives one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let one = buffer.len().min(1);
            self.0.read(&mut buffer[..one])
        }
    }

    fn events(text: &str) -> Vec<String> {
        let events = Events::new(BufReader::new(Trickle(text.as_bytes())), Duration::from_secs(60));
        events.map(|event| String::from_utf8(event.unwrap()).unwrap()).collect()
    }

    #[test]
    fn data_is_read_wherever_it_is_cut() {
        let text = ": hello\r\n\r\nevent: message\r\ndata: {\"a\": \"é日\"}\r\n\r\n\
                    data:one\ndata: two\n\ndata: [DONE]\n\n";
        assert_eq!(events(text), ["{\"a\": \"é日\"}", "one\ntwo"]);
    }

    #[test]
    fn nothing_counts_after_the_end_or_before_an_event_is_whole() {
        assert_eq!(events("data: 1\n\ndata: [DONE]\n\n"), ["1"]);
        assert_eq!(events("data: 1\n\ndata: 2\n"), ["1"]);
        assert_eq!(events("data: 1\n\ndata: 2"), ["1"]);
        assert!(events("").is_empty());
    }
}
