//! A round of an on-policy training: what was written at once, kept with the checkpoints until all of it is learnt from.

use std::path::Path;

use collimate_objective::{KlController, Metrics};
use collimate_run::{Error, Result, atomic};
use collimate_train::Position;
use serde::{Deserialize, Serialize};

use super::example::Written;

/// The file in a checkpoint with what is still to be learnt from.
const STATE: &str = "rollouts.json";

/// One round: what was written at once, and how much of it has been learnt from.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Round {
    /// Where in the prompts the next round begins.
    pub position: Position,
    /// Steps taken in this one.
    pub taken: usize,
    pub examples: Vec<Written>,
    /// What is logged of it, with its first step.
    pub metrics: Metrics,
    /// What divergence from the reference costs, where that changes.
    pub control: Option<KlController>,
    /// Bytes of the record of completions.
    pub recorded: u64,
}

impl Round {
    /// The round that a checkpoint was saved in.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let path = checkpoint.join(STATE);
        let text = std::fs::read(&path).map_err(|source| Error::read(&path, source))?;
        serde_json::from_slice(&text).map_err(|source| Error::read(&path, std::io::Error::other(source)))
    }

    /// Writes it into a checkpoint; of one that is exhausted, not what was learnt from.
    pub fn write(&self, checkpoint: &Path, exhausted: bool) -> Result<()> {
        let text = if exhausted {
            let Self { position, taken, control, recorded, .. } = *self;
            serde_json::to_vec(&Self { position, taken, control, recorded, ..Self::default() })
        } else {
            serde_json::to_vec(self)
        };
        let path = checkpoint.join(STATE);
        let text = text.map_err(|source| Error::write(&path, source.into()))?;
        atomic::write(path, &text)
    }
}
