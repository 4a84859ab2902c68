//! What the targets share: inputs of several parts, a folder to write them to, and bounds on what reading them takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cpu_time::ProcessTime;
use peak_alloc::PeakAlloc;
use serde::Deserialize;
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What stands between the parts of an input: a mark that mutations copy and cut at.
pub const SEPARATOR: &[u8] = b"\n====\n";

/// Zeros that are put behind a header in place of weights, at most.
const MOST_ZEROS: u64 = 256 << 10;

/// What a reading may take of the processor: milliseconds are usual, with the sanitiser too.
const MOST_TIME: Duration = Duration::from_secs(5);

/// The first `N` parts of an input; those that are not there are empty.
pub fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(input);
    std::array::from_fn(|_| {
        let (part, behind) = cut(rest.unwrap_or_default());
        rest = behind;
        part
    })
}

fn cut(input: &[u8]) -> (&[u8], Option<&[u8]>) {
    match input.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        Some(place) => (&input[..place], Some(&input[place + SEPARATOR.len()..])),
        None => (input, None),
    }
}

/// A safetensors file of a part: a header in JSON gets its length and its weights, anything else is the file.
pub fn safetensors(part: &[u8]) -> Vec<u8> {
    #[derive(Deserialize)]
    struct Tensor {
        data_offsets: [u64; 2],
    }
    if !part.starts_with(b"{") {
        return part.to_vec();
    }
    let header: Value = serde_json::from_slice(part).unwrap_or_default();
    let tensors = header.as_object().into_iter().flatten();
    let ends = tensors.filter_map(|(_, tensor)| Tensor::deserialize(tensor).ok()).map(|tensor| tensor.data_offsets[1]);
    let zeros = ends.max().unwrap_or(0).min(MOST_ZEROS) as usize;
    let length = part.len() as u64;
    [&length.to_le_bytes()[..], part, &vec![0; zeros]].concat()
}

/// A folder whose files are replaced by each input.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// Makes an empty one, in memory where the system has such a place.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        Self(tempfile::tempdir_in(place).expect("a folder for temporary files"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes the file `name`; where there is no content, takes it away. Returns its path.
    pub fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        if content.is_empty() {
            let _ = std::fs::remove_file(&path);
        } else {
            std::fs::write(&path, content).expect("a file in the temporary folder");
        }
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs `work`, and fails where it takes more than `most_memory` bytes or too long.
pub fn bounded<T>(most_memory: usize, work: impl FnOnce() -> T) -> T {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let start = ProcessTime::now();
    let result = work();
    // Of the processor, which others may keep busy.
    let time = start.elapsed();
    let memory = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(memory <= most_memory, "{memory} bytes of memory were taken, {most_memory} are allowed");
    assert!(time <= MOST_TIME, "it took {time:?}");
    result
}
