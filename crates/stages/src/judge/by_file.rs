//! One value for each of the three files of judgements.

use serde::{Deserialize, Serialize};

/// The names of the files.
pub(super) const FILES: [&str; 3] = ["output.jsonl", "guide.jsonl", "guide_reverse.jsonl"];

/// What each of the three files has of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByFile<T> {
    /// Judgements without a hint.
    pub output: T,
    /// Those that were told the preferred answer.
    pub guide: T,
    /// Those that were told the other one.
    pub guide_reverse: T,
}

impl<T> ByFile<T> {
    /// With the name of each file, without its ending.
    pub fn named(self) -> [(&'static str, T); 3] {
        [("output", self.output), ("guide", self.guide), ("guide_reverse", self.guide_reverse)]
    }
}

impl<T> From<[T; 3]> for ByFile<T> {
    fn from([output, guide, guide_reverse]: [T; 3]) -> Self {
        Self { output, guide, guide_reverse }
    }
}
