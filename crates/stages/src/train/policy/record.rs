//! `completions.jsonl`: every completion that was written to be learnt from, with its rewards, for reading.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::PathBuf;

use collimate_generate::FinishReason;
use collimate_run::Context;
use serde::Serialize;
use serde_json::{Map, Value};

use super::example::Written;
use super::group::Group;

/// The file's name in the output folder.
pub const COMPLETIONS_FILE: &str = "completions.jsonl";

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    /// The first step that learns from it, counted from 1.
    step: u64,
    /// The prompt's row in its file.
    row: u64,
    prompt: &'a Value,
    completion: &'a str,
    /// Each reward by its name, without its weight.
    rewards: Map<String, Value>,
    /// Their weighted sum.
    reward: f64,
    /// The mean of its tokens' advantages; none, where the method has none or the group was filtered out.
    #[serde(skip_serializing_if = "Option::is_none")]
    advantage: Option<f64>,
    finish_reason: FinishReason,
}

/// The file, open at its end. Of several workers the leader alone has one.
pub(super) struct Recorder {
    path: PathBuf,
    file: Option<File>,
    /// Bytes that it holds; 0 where there is none.
    pub len: u64,
}

impl Recorder {
    /// Opens the file of a run; what a run before it wrote is still there.
    pub fn open(context: &Context) -> collimate_run::Result<Self> {
        let path = context.output().join(COMPLETIONS_FILE);
        let open = || OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = context.team().leads().then(open).transpose();
        let file = file.map_err(|source| collimate_run::Error::write(&path, source))?;
        Ok(Self { path, file, len: 0 })
    }

    /// Keeps the first `len` bytes: what was written after a checkpoint is taken back.
    ///
    /// # Errors
    /// A file that does not hold so many.
    pub fn cut(&mut self, len: u64) -> collimate_run::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let found = file.metadata().map_err(|source| collimate_run::Error::read(&self.path, source))?.len();
        if found < len {
            let reason = format!("it has {found} bytes, and {len} when the checkpoint was made");
            let source = std::io::Error::new(ErrorKind::InvalidData, reason);
            return Err(collimate_run::Error::read(&self.path, source));
        }
        self.len = len;
        self.change(|file| file.set_len(len))
    }

    /// Makes what was written last through a power cut.
    pub fn sync(&self) -> collimate_run::Result<()> {
        self.change(File::sync_data)
    }

    /// Writes groups behind all that there is to be kept, each with what is learnt from it, if anything.
    pub fn append<'a>(
        &mut self,
        step: u64,
        groups: impl Iterator<Item = (&'a Group, Option<&'a Written>)>,
        names: &'a [String],
    ) -> collimate_run::Result<()> {
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        let len = self.len;
        self.change(|mut file| {
            file.set_len(len)?;
            file.seek(SeekFrom::Start(len))?;
            let mut out = BufWriter::new(file);
            for line in groups.flat_map(|group| lines(step, group, names)) {
                serde_json::to_writer(&mut out, &line)?;
                out.write_all(b"\n")?;
            }
            out.flush()
        })?;
        let end = file.stream_position();
        self.len = end.map_err(|source| collimate_run::Error::write(&self.path, source))?;
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&File) -> std::io::Result<()>) -> collimate_run::Result<()> {
        let changed = self.file.as_ref().map_or(Ok(()), change);
        changed.map_err(|source| collimate_run::Error::write(&self.path, source))
    }
}

/// One line for each completion.
fn lines<'a>(
    step: u64,
    (group, written): (&'a Group, Option<&'a Written>),
    names: &'a [String],
) -> impl Iterator<Item = Line<'a>> {
    group.samples.iter().enumerate().map(move |(index, sample)| Line {
        step,
        row: group.row,
        prompt: &group.prompt,
        completion: &sample.text,
        rewards: names
            .iter()
            .zip(&group.parts)
            .map(|(name, part)| (name.clone(), part[index].into()))
            .collect(),
        reward: group.rewards[index],
        advantage: written.and_then(|written| written.completions.get(index)?.advantage()),
        finish_reason: sample.finish_reason,
    })
}
