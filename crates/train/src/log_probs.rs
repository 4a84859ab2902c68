//! The log-probs of every target of a data set under one model, computed once and kept on the disk.

use crate::micro_batch::{MicroBatch, costs, cut};
use crate::{Error, Result, TrainingExample};
use collimate_engine::Engine;
use collimate_model::Lora;
use collimate_run::team::{broadcast, shared_out};
use collimate_run::{Context, Error as RunError, Event};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Micro-batches for each worker between two exchanges of what was found.
const PARTS_OF_A_ROUND: usize = 16;

/// The pause before looking again whether another run has ended.
const PAUSE: Duration = Duration::from_millis(500);

/// The log-probs of the targets of a data set, under a model that does not change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogProbs {
    /// Room for all targets, example after example.
    values: Vec<f32>,
    /// Where each example's values end, and whether they are there.
    examples: Vec<(usize, bool)>,
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
    /// The log-probs of the targets of an example, in the order in which it puts them into a batch; nothing if they
    /// were not asked for.
    pub fn of(&self, number: usize) -> Option<&[f32]> {
        self.examples[number].1.then(|| &self.values[self.place(number)])
    }

    /// Scores the `wanted` examples; with a `file`, those that stand in it are read, and the others are written into
    /// it as they are done, so that a run that was killed goes on where it was. The name of the file must stand for
    /// the examples and the model: whatever is whole in it is taken as theirs.
    ///
    /// Several workers share them out, and all get the same; the leader alone has a file. A second run that wants the same
    /// file waits for the first one and reads what that found.
    ///
    /// Errors: the engine's, those of the file, an interruption, a worker that is lost.
    pub fn compute<E: Engine, X: TrainingExample>(
        scorer: Scorer<'_, E>,
        (examples, wanted): (&[X], &[usize]),
        file: Option<&Path>,
        context: &Context<'_>,
    ) -> Result<Self> {
        let (mut found, team) = (Self::empty(examples), context.team());
        let mut journal =
            file.filter(|_| team.leads()).map(|path| Journal::open(path, context)).transpose()?;
        if let Some(journal) = &mut journal {
            journal.read(&mut found)?;
        }
        if !team.is_alone()
            && let Some(known) = broadcast(team, journal.as_ref().map(|_| found.clone()))?
        {
            found = known;
        }
        let missing: Vec<usize> =
            wanted.iter().copied().filter(|&number| !found.examples[number].1).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let total = Some(missing.len() as u64);
        context.report(Event::Started { task: scorer.task, total, unit: "examples" });
        let (start, mut micro_batch) = (Instant::now(), MicroBatch::default());
        let parts: Vec<Range<usize>> = cut(examples, &missing, scorer.micro_batch_tokens).collect();
        // After each round everyone has what all have found; alone, after each micro-batch.
        let round = if team.is_alone() { 1 } else { PARTS_OF_A_ROUND * team.size() };
        for parts in parts.chunks(round) {
            let costs = costs(scorer.engine.config(), (examples, &missing), parts);
            let scored = shared_out(team, &costs, |part| {
                context.check()?;
                micro_batch.fill(examples, &missing[parts[part].clone()]);
                let scores = scorer.engine.score(&micro_batch.batch, scorer.adapter)?;
                Ok::<_, Error>(scores.log_probs.clone())
            })?;
            for (part, log_probs) in parts.iter().zip(scored) {
                micro_batch.fill(examples, &missing[part.clone()]);
                found.take_in(&micro_batch, &log_probs);
                if let Some(journal) = &mut journal {
                    missing[part.clone()].iter().try_for_each(|&number| journal.write(&found, number))?;
                }
            }
            let done = parts.last().map_or(0, |part| part.end as u64);
            context.report(Event::Advanced { done, fields: &[] });
        }
        if let Some(journal) = journal {
            journal.sync()?;
        }
        context.report(Event::Finished);
        found.seconds = start.elapsed().as_secs_f64();
        Ok(found)
    }

    /// The log-probs of examples that are known, one list each.
    pub fn known<'a>(examples: impl IntoIterator<Item = &'a [f32]>) -> Self {
        let mut found = Self::default();
        for values in examples {
            found.values.extend_from_slice(values);
            found.examples.push((found.values.len(), true));
        }
        found
    }

    /// Room for the examples, of which nothing is known.
    fn empty<X: TrainingExample>(examples: &[X]) -> Self {
        let mut end = 0;
        let place = |example: &X| {
            end += example.targets();
            (end, false)
        };
        let examples: Vec<_> = examples.iter().map(place).collect();
        Self { values: vec![0.0; end], examples, seconds: 0.0 }
    }

    fn place(&self, number: usize) -> Range<usize> {
        let start = number.checked_sub(1).map_or(0, |before| self.examples[before].0);
        start..self.examples[number].0
    }

    fn take_in(&mut self, scored: &MicroBatch, log_probs: &[f32]) {
        for example in &scored.grouping.examples {
            let sequences = &scored.grouping.sequences[example.sequences.clone()];
            let values = sequences.iter().flat_map(|targets| &log_probs[targets.clone()]);
            let place = self.place(example.number);
            self.values[place].iter_mut().zip(values).for_each(|(place, value)| *place = *value);
            self.examples[example.number].1 = true;
        }
    }
}

/// A file with a place for each example: its log-probs as f32, then the CRC-32C of those bytes, all little endian. What
/// is torn, or was never written, does not have its checksum.
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
            while let Err(TryLockError::WouldBlock) = file.try_lock() {
                context.check()?;
                thread::sleep(PAUSE);
            }
        }
        // Some network disks know no locks; what two runs would write is the same.
        Ok(Self { path, file, bytes: Vec::new() })
    }

    /// Reads what is whole.
    fn read(&mut self, found: &mut LogProbs) -> Result<()> {
        let mut reader = BufReader::new(&self.file);
        for number in 0..found.examples.len() {
            let place = found.place(number);
            self.bytes.resize(4 * (place.len() + 1), 0);
            match reader.read_exact(&mut self.bytes) {
                Err(torn) if torn.kind() == ErrorKind::UnexpectedEof => break,
                outcome => outcome.map_err(|source| RunError::read(self.path, source))?,
            }
            let (words, _) = self.bytes.as_chunks::<4>();
            let Some((sum, values)) = words.split_last() else { break };
            if u32::from_le_bytes(*sum) == crc32c::crc32c(values.as_flattened()) {
                let places = found.values[place].iter_mut();
                places.zip(values).for_each(|(place, value)| *place = f32::from_le_bytes(*value));
                found.examples[number].1 = true;
            }
        }
        Ok(())
    }

    fn write(&mut self, found: &LogProbs, number: usize) -> Result<()> {
        let place = found.place(number);
        let at = 4 * (place.start + number) as u64;
        self.bytes.clear();
        self.bytes.extend(found.values[place].iter().flat_map(|value| value.to_le_bytes()));
        let sum = crc32c::crc32c(&self.bytes);
        self.bytes.extend(sum.to_le_bytes());
        let written = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(&self.bytes));
        Ok(written.map_err(|source| RunError::write(self.path, source))?)
    }

    fn sync(self) -> Result<()> {
        Ok(self.file.sync_all().map_err(|source| RunError::write(self.path, source))?)
    }
}
