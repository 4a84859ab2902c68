//! What the processes of a run tell each other about themselves, beside what their stages send.

use std::time::Duration;

use collimate_run::team::{Channel, Loss};
use serde::{Deserialize, Serialize};

use crate::roster::Place;
use crate::watchdog::Beat;

/// What a letter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// It holds a [`Word`].
    Word,
    /// It is for the mailbox.
    Work(Channel),
}

impl Tag {
    /// Its number, counted from 0.
    pub fn number(self) -> usize {
        match self {
            Self::Word => 0,
            Self::Work(channel) => 1 + Channel::ALL.iter().position(|other| *other == channel).unwrap_or(0),
        }
    }

    /// The tag of a number, if it is one's.
    pub fn of(number: usize) -> Option<Self> {
        match number.checked_sub(1) {
            None => Some(Self::Word),
            Some(channel) => Channel::ALL.get(channel).copied().map(Self::Work),
        }
    }
}

/// Bytes on their way to a worker.
#[derive(Debug, PartialEq, Eq)]
pub struct Letter {
    /// Who gets it.
    pub to: usize,
    /// What it belongs to.
    pub tag: Tag,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// A program, by the hash of its file.
pub type Program = [u8; 32];

/// What is told. Followers speak to the leader alone, and the leader to all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// A follower begins.
    Hello {
        /// Where it runs.
        place: Place,
        /// What it runs.
        program: Program,
    },
    /// All are there.
    Welcome {
        /// The places of all workers, by rank.
        places: Vec<Place>,
        /// How long a worker may show no sign of progress.
        limit: Duration,
    },
    /// How it stands with who speaks.
    Beat(Beat),
    /// A follower has come to its end; a loss is that of the others.
    Ended(Option<Loss>),
    /// A worker is lost.
    Lost(usize, Loss),
    /// The run is over.
    Dismissed {
        /// Everyone is there, to end in good order.
        together: bool,
        /// The exit code of the leader.
        code: u8,
    },
}

impl Word {
    /// As a letter.
    pub fn letter(&self, to: usize) -> Letter {
        // Nothing in a word can refuse to be put into bytes; if it did, silence would tell.
        Letter { to, tag: Tag::Word, bytes: postcard::to_allocvec(self).unwrap_or_default() }
    }

    /// What the bytes of a letter say, if they say anything.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_has_its_number() {
        let tags = Channel::ALL.map(Tag::Work).into_iter().chain([Tag::Word]);
        assert!(tags.clone().all(|tag| Tag::of(tag.number()) == Some(tag)));
        assert_eq!(Tag::of(tags.count()), None);
    }

    #[test]
    fn a_word_is_read_as_it_was_written() {
        let loss = Loss::Failed { host: "node-b".to_owned(), cause: "no memory".to_owned() };
        let word = Word::Lost(3, loss);
        assert_eq!(Word::read(&word.letter(1).bytes), Some(word));
        assert_eq!(Word::read(&[250, 1]), None);
    }
}
