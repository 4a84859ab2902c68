//! What connects workers: named networks by their published figures, this machine's own memory by measurement.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::str::FromStr;
use std::time::Instant;

use bytesize::ByteSize;
use serde::{Serialize, Serializer};

use super::cluster::Link;

/// What connects the workers of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Network {
    /// All are on one machine, and what they send to each other is copied through its memory.
    Local,
    /// Nodes are connected by a network that is known by its figures.
    Named(&'static str, Link),
    /// Nodes are connected by a network of these figures.
    Stated(Link),
}

/// Share of a network's line rate that large messages reach.
const REACHED: f64 = 0.9;

/// Seconds.
const MICROSECOND: f64 = 1e-6;

/// Names, line rates in gigabits a second, and latencies of short messages in microseconds: over TCP some tens, over
/// InfiniBand what MPI is measured to take through a switch or two.
const NAMED: [(&str, f64, f64); 5] = [
    ("ethernet-1g", 1.0, 50.0),
    ("ethernet-10g", 10.0, 30.0),
    ("ethernet-100g", 100.0, 20.0),
    ("infiniband-hdr", 200.0, 2.0),
    ("infiniband-ndr", 400.0, 2.0),
];

/// Between workers of one node, where that is not measured: through shared memory, written and read once each.
pub const SHARED_MEMORY: Link = Link { latency: MICROSECOND, bandwidth: 5e9 };

/// Bytes of a large message of the measurement, and how many are sent of large and of short ones.
const MESSAGE: usize = 1 << 20;
const LARGE: u32 = 128;
const SHORT: u32 = 2000;

impl Network {
    /// Between nodes; none where there is one node.
    pub fn between(self) -> Option<Link> {
        match self {
            Self::Local => None,
            Self::Named(_, link) | Self::Stated(link) => Some(link),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => formatter.write_str("local"),
            Self::Named(name, _) => formatter.write_str(name),
            Self::Stated(Link { latency, bandwidth }) => {
                write!(formatter, "{}B,{}us", bandwidth, latency / MICROSECOND)
            }
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "local" {
            return Ok(Self::Local);
        }
        if let Some(&(name, gigabits, latency)) = NAMED.iter().find(|named| named.0 == text) {
            let link = Link { latency: latency * MICROSECOND, bandwidth: gigabits * 1e9 / 8.0 * REACHED };
            return Ok(Self::Named(name, link));
        }
        stated(text).map(Self::Stated).ok_or_else(|| {
            let names = NAMED.map(|named| named.0).join(", ");
            format!(
                "no network of this name is known; there are local, {names}, and any as bytes a second with \
                 its latency, such as 1.2GB,30us"
            )
        })
    }
}

/// `1.2GB,30us`: bytes a second, and microseconds.
fn stated(text: &str) -> Option<Link> {
    let (bandwidth, latency) = text.split_once(',')?;
    let bandwidth = bandwidth.trim().parse::<ByteSize>().ok()?.as_u64() as f64;
    let latency = latency.trim().strip_suffix("us")?.trim().parse::<f64>().ok()?;
    let possible = bandwidth >= 1.0 && (0.0..1e9).contains(&latency);
    possible.then_some(Link { latency: latency * MICROSECOND, bandwidth })
}

/// What copying through this machine's memory takes from one process to another: through a pipe, as they do it.
///
/// # Errors
/// The system gives no pipe.
pub fn measure() -> std::io::Result<Link> {
    let (there, back) = (pipe()?, pipe()?);
    std::thread::scope(|scope| {
        let (mut reader, mut writer) = (there.0, back.1);
        let other = scope.spawn(move || answer(&mut reader, &mut writer));
        let (mut reader, mut writer) = (back.0, there.1);
        // The first ones wake the threads and touch the memory.
        ask(MESSAGE, 8, (&mut reader, &mut writer))?;
        let large = ask(MESSAGE, LARGE, (&mut reader, &mut writer))?;
        let short = ask(size_of::<u64>(), SHORT, (&mut reader, &mut writer))?;
        drop(writer);
        other.join().unwrap_or(Ok(()))?;
        Ok(Link { latency: short / 2.0, bandwidth: MESSAGE as f64 / (large - short).max(1e-9) })
    })
}

/// The mean time of messages of so many bytes, each answered by one byte; the first eight say how many there are.
fn ask(bytes: usize, count: u32, ends: (&mut PipeReader, &mut PipeWriter)) -> std::io::Result<f64> {
    let (reader, writer) = ends;
    let mut message = vec![1; bytes];
    message[..size_of::<u64>()].copy_from_slice(&(bytes as u64).to_le_bytes());
    let start = Instant::now();
    for _ in 0..count {
        writer.write_all(&message)?;
        reader.read_exact(&mut [0])?;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(count))
}

/// Answers each message, until there are no more.
fn answer(reader: &mut PipeReader, writer: &mut PipeWriter) -> std::io::Result<()> {
    let mut message = vec![0; MESSAGE];
    loop {
        let mut size = [0; size_of::<u64>()];
        if reader.read_exact(&mut size).is_err() {
            return Ok(());
        }
        let rest = (u64::from_le_bytes(size) as usize).min(MESSAGE) - size.len();
        reader.read_exact(&mut message[..rest])?;
        writer.write_all(&[1])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_known_by_name_or_by_figures() {
        assert_eq!("local".parse(), Ok(Network::Local));
        let hdr: Network = "infiniband-hdr".parse().unwrap();
        assert_eq!(hdr.between(), Some(Link { latency: 2e-6, bandwidth: 22.5e9 }));
        let stated: Network = "1.2GB,30us".parse().unwrap();
        assert_eq!(stated.between().unwrap().bandwidth, 1.2e9);
        assert_eq!(stated.to_string().parse(), Ok(stated));
        for wrong in ["", "ethernet", "1GB", "1GB,fast", "0B,1us", "1GB,-1us", "1GB,NaNus"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn this_machine_is_measured() {
        let Link { latency, bandwidth } = measure().unwrap();
        assert!(
            latency > 0.0 && latency < 1.0 && bandwidth > 1e6 && bandwidth < 1e13,
            "{latency} {bandwidth}"
        );
    }
}
