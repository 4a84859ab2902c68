//! The log-probs of every target of a data set under one model, computed once and kept on the disk.

use crate::micro_batch::{MicroBatch, cut};
use crate::{Result, TrainingExample};
use collimate_engine::Engine;
use collimate_model::Lora;
use collimate_run::{Context, Error as RunError, Event};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

/// The log-probs of every target of a data set, under a model that does not change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogProbs {
    values: Vec<f32>,
    /// Where each example's values end.
    ends: Vec<usize>,
    /// Seconds that the model took; 0 where everything was on the disk.
    pub seconds: f64,
}

/// The model that is asked.
pub struct Scorer<'a, E> {
    /// The model.
    pub engine: &'a mut E,
    /// The adapter on it, if any.
    pub adapter: Option<&'a Lora>,
    /// Most tokens that go through the engine at once.
    pub micro_batch_tokens: usize,
    /// What is said to be under way.
    pub task: &'static str,
}

impl LogProbs {
    /// The log-probs of the targets of an example, in the order in which it puts them into a batch.
    pub fn of(&self, number: usize) -> &[f32] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[start..self.ends[number]]
    }

    fn push(&mut self, values: impl IntoIterator<Item = f32>) {
        self.values.extend(values);
        self.ends.push(self.values.len());
    }

    /// Scores the examples; with a `file`, those that stand in it are read, and the others are added to it as they
    /// are done, so that a run that was killed goes on where it was. The name of the file must stand for the
    /// examples and the model: whatever is whole in it is taken as theirs.
    ///
    /// A second process that wants the same file waits for the first one and reads what that found.
    ///
    /// Errors: the engine's, those of the file, an interruption.
    pub fn compute<E: Engine, X: TrainingExample>(
        scorer: Scorer<'_, E>,
        examples: &[X],
        file: Option<&Path>,
        context: &Context<'_>,
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut journal = file.map(|path| Journal::open(path, context)).transpose()?;
        if let Some(journal) = &mut journal {
            journal.read(examples, &mut found)?;
        }
        let first = found.ends.len();
        if first == examples.len() {
            return Ok(found);
        }
        let total = Some(examples.len() as u64);
        context.report(Event::Started { task: scorer.task, total, unit: "examples" });
        let start = Instant::now();
        let numbers: Vec<usize> = (first..examples.len()).collect();
        let mut micro_batch = MicroBatch::default();
        for part in cut(examples, &numbers, scorer.micro_batch_tokens) {
            context.check()?;
            micro_batch.fill(examples, &numbers[part]);
            let scores = scorer.engine.score(&micro_batch.batch, scorer.adapter)?;
            for example in &micro_batch.grouping.examples {
                let sequences = &micro_batch.grouping.sequences[example.sequences.clone()];
                found.push(
                    sequences.iter().flat_map(|targets| scores.log_probs[targets.clone()].iter().copied()),
                );
                if let Some(journal) = &mut journal {
                    journal.append(found.of(example.number))?;
                }
            }
            context.report(Event::Advanced { done: found.ends.len() as u64, fields: &[] });
        }
        if let Some(journal) = journal {
            journal.sync()?;
        }
        context.report(Event::Finished);
        found.seconds = start.elapsed().as_secs_f64();
        Ok(found)
    }
}

/// A file that grows by one record an example: its log-probs as f32, then the CRC-32C of those bytes, all little
/// endian. A torn end is cut off when the file is opened again.
struct Journal<'a> {
    path: &'a Path,
    file: File,
    bytes: Vec<u8>,
}

impl<'a> Journal<'a> {
    fn open(path: &'a Path, context: &Context<'_>) -> Result<Self> {
        let write = |source| RunError::write(path, source);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(write)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.map_err(write)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            context.report(Event::Note("another run is computing the same log-probs; waiting for it"));
            file.lock().map_err(write)?;
        }
        // Some network disks know no locks; what two runs would write is the same.
        Ok(Self { path, file, bytes: Vec::new() })
    }

    /// Reads the whole records at the start, and stands behind them.
    fn read<X: TrainingExample>(&mut self, examples: &[X], found: &mut LogProbs) -> Result<()> {
        let read = |source| RunError::read(self.path, source);
        let mut good = 0;
        let mut reader = BufReader::new(&self.file);
        for example in examples {
            self.bytes.resize(4 * (example.targets() + 1), 0);
            match reader.read_exact(&mut self.bytes) {
                Err(torn) if torn.kind() == ErrorKind::UnexpectedEof => break,
                outcome => outcome.map_err(read)?,
            }
            let (words, _) = self.bytes.as_chunks::<4>();
            let Some((sum, values)) = words.split_last() else { break };
            if u32::from_le_bytes(*sum) != crc32c::crc32c(values.as_flattened()) {
                break;
            }
            found.push(values.iter().map(|&value| f32::from_le_bytes(value)));
            good += self.bytes.len() as u64;
        }
        let write = |source| RunError::write(self.path, source);
        self.file.set_len(good).map_err(write)?;
        self.file.seek(SeekFrom::Start(good)).map_err(write)?;
        Ok(())
    }

    fn append(&mut self, values: &[f32]) -> Result<()> {
        self.bytes.clear();
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let sum = crc32c::crc32c(&self.bytes);
        self.bytes.extend(sum.to_le_bytes());
        Ok(self.file.write_all(&self.bytes).map_err(|source| RunError::write(self.path, source))?)
    }

    fn sync(self) -> Result<()> {
        Ok(self.file.sync_all().map_err(|source| RunError::write(self.path, source))?)
    }
}
