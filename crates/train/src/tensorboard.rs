//! TensorBoard event files: scalars only.
//!
//! A file is a run of TFRecords (length, masked CRC-32C of the length, data, masked CRC-32C of the data), each
//! holding one `tensorflow.Event` message. The few fields of that message which scalars need are encoded here; no
//! maintained crate writes them without bringing a protobuf runtime, an image library and a host name lookup.

use crate::Result;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// Fields of `tensorflow.Event`.
const EVENT_WALL_TIME: u8 = 1;
const EVENT_STEP: u8 = 2;
const EVENT_FILE_VERSION: u8 = 3;
const EVENT_SUMMARY: u8 = 5;
const EVENT_SESSION_LOG: u8 = 7;

/// `tensorflow.SessionLog`: the field `status` and its value START.
const SESSION_LOG_STATUS: u8 = 1;
const SESSION_START: u64 = 1;

/// `tensorflow.Summary.value`, and within it `tag` and `simple_value`.
const SUMMARY_VALUE: u8 = 1;
const VALUE_TAG: u8 = 1;
const VALUE_SIMPLE: u8 = 2;

/// An event file that is being written.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    event: Vec<u8>,
    summary: Vec<u8>,
    value: Vec<u8>,
}

impl EventWriter {
    /// Starts a new event file in `folder`. `resumed_at` makes TensorBoard drop what earlier files say of steps
    /// after that one.
    pub fn create(folder: &Path, resumed_at: Option<u64>) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|source| collimate_run::Error::write(folder, source))?;
        let path = folder.join(format!("events.out.tfevents.{}.collimate", seconds_since_1970() as u64));
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let file = opened.map_err(|source| collimate_run::Error::write(&path, source))?;
        let mut writer = Self { path, file, event: vec![], summary: vec![], value: vec![] };
        writer.begin(0);
        bytes_field(&mut writer.event, EVENT_FILE_VERSION, b"brain.Event:2");
        writer.write()?;
        if let Some(step) = resumed_at {
            let mut start = Vec::new();
            varint_field(&mut start, SESSION_LOG_STATUS, SESSION_START);
            writer.begin(step + 1);
            bytes_field(&mut writer.event, EVENT_SESSION_LOG, &start);
            writer.write()?;
        }
        Ok(writer)
    }

    /// Appends scalars of one step.
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        scalars: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        self.summary.clear();
        for (tag, number) in scalars {
            self.value.clear();
            bytes_field(&mut self.value, VALUE_TAG, tag.as_bytes());
            self.value.push(VALUE_SIMPLE << 3 | FIXED32);
            self.value.extend_from_slice(&(number as f32).to_le_bytes());
            bytes_field(&mut self.summary, SUMMARY_VALUE, &self.value);
        }
        self.begin(step);
        bytes_field(&mut self.event, EVENT_SUMMARY, &self.summary);
        self.write()
    }

    fn begin(&mut self, step: u64) {
        self.event.clear();
        self.event.push(EVENT_WALL_TIME << 3 | FIXED64);
        self.event.extend_from_slice(&seconds_since_1970().to_le_bytes());
        varint_field(&mut self.event, EVENT_STEP, step);
    }

    fn write(&mut self) -> Result<()> {
        let written = self.file.write_all(&record(&self.event));
        Ok(written.map_err(|source| collimate_run::Error::write(&self.path, source))?)
    }
}

/// One TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_crc(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that a checksum of checksums does not degenerate (TFRecord's format).
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn varint_field(out: &mut Vec<u8>, field: u8, number: u64) {
    out.push(field << 3 | VARINT);
    varint(out, number);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published check value of CRC-32C is 0xe3069283 for "123456789"; masked by hand:
    /// (crc >> 15 | crc << 17) = 0x2507c60d, + 0xa282ead8 = 0xc78ab0e5.
    #[test]
    fn the_checksum_is_the_masked_one() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn an_event_holds_its_step_and_scalars() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), Some(9)).unwrap();
        writer.scalars(300, [("train/loss", 1.5)]).unwrap();
        let bytes = std::fs::read(&writer.path).unwrap();
        let mut events = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let data = &rest[12..12 + length];
            assert_eq!(rest[..12 + length + 4], record(data)[..]);
            events.push(data[9..].to_vec());
            rest = &rest[12 + length + 4..];
        }
        assert_eq!(events[0], [&[2 << 3, 0, 3 << 3 | 2, 13][..], b"brain.Event:2"].concat());
        assert_eq!(events[1], [2 << 3, 10, 7 << 3 | 2, 2, 1 << 3, 1]);
        // Step 300 is the varint AC 02; the value is tag (12 bytes with its head), then the little-endian float.
        let summary =
            [&[2 << 3, 0xac, 0x02, 5 << 3 | 2, 19, 1 << 3 | 2, 17, 1 << 3 | 2, 10][..], b"train/loss"];
        assert_eq!(events[2], [&summary.concat()[..], &[2 << 3 | 5, 0, 0, 0xc0, 0x3f]].concat());
    }
}
