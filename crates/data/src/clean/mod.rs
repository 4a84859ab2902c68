//! Cleaning instructions: tidy texts, no empty rows, no duplicates.

mod near;
mod shingles;
mod text;

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::instruction::Instruction;
use near::NearDuplicates;

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It stays, tidied.
    Kept {
        /// The tidied row.
        row: Instruction,
        /// Its input only said that there was none.
        input_emptied: bool,
    },
    /// It asks for nothing.
    EmptyInstruction,
    /// It answers nothing.
    EmptyOutput,
    /// Once tidied it equals a kept row.
    ExactDuplicate {
        /// The number of the kept row, counted from 1.
        of: u64,
    },
    /// It says almost the same as a kept row.
    NearDuplicate {
        /// The number of the kept row, counted from 1.
        of: u64,
        /// Jaccard similarity of the two rows' word triples.
        similarity: f64,
    },
}

/// Tidies rows one by one and remembers, as hashes, those that it kept.
pub struct Cleaner {
    exact: HashMap<[u8; 32], u64>,
    near: Option<NearDuplicates>,
    kept: u64,
}

impl Cleaner {
    /// A cleaner that drops rows from a Jaccard similarity of `threshold` on; 0 keeps all but exact duplicates.
    /// `seed` draws the hash functions.
    ///
    /// # Errors
    /// A threshold outside [0, 1].
    pub fn new(threshold: f64, seed: u64) -> Result<Self> {
        if !(0.0..=1.0).contains(&threshold) {
            let setting = "near_duplicate_threshold";
            return Err(Error::OutOfRange { setting, value: threshold, expected: "between 0 and 1" });
        }
        let near = (threshold > 0.0).then(|| NearDuplicates::new(threshold, seed));
        Ok(Self { exact: HashMap::new(), near, kept: 0 })
    }

    /// Tidies a row and says whether it stays: texts in Unicode NFC and trimmed; an input that only says "no
    /// input" emptied.
    pub fn clean(&mut self, row: Instruction) -> Verdict {
        let (input, input_emptied) = text::tidy_input(&row.input);
        let row =
            Instruction { instruction: text::tidy(&row.instruction), input, output: text::tidy(&row.output) };
        if row.instruction.is_empty() {
            return Verdict::EmptyInstruction;
        }
        if row.output.is_empty() {
            return Verdict::EmptyOutput;
        }
        // No field can hold the separator: it is not a character that tidying leaves at an end.
        let whole = [row.instruction.as_str(), &row.input, &row.output].join("\n\u{0}\n");
        let digest = *blake3::hash(whole.as_bytes()).as_bytes();
        if let Some(of) = self.exact.get(&digest) {
            return Verdict::ExactDuplicate { of: *of };
        }
        if let Some(found) = self.near.as_mut().and_then(|near| near.find_or_add(&whole)) {
            return Verdict::NearDuplicate { of: found.index as u64 + 1, similarity: found.similarity };
        }
        self.kept += 1;
        self.exact.insert(digest, self.kept);
        Verdict::Kept { row, input_emptied }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instruction: &str, input: &str, output: &str) -> Instruction {
        Instruction { instruction: instruction.into(), input: input.into(), output: output.into() }
    }

    #[test]
    fn tidies_and_names_what_it_drops() {
        let mut cleaner = Cleaner::new(0.9, 42).unwrap();
        let kept = Verdict::Kept { row: row("Say é", "", "é"), input_emptied: true };
        assert_eq!(cleaner.clean(row("  Say e\u{301}\n", " <noinput> ", "\té ")), kept);
        assert_eq!(cleaner.clean(row("Say é", "", "é")), Verdict::ExactDuplicate { of: 1 });
        assert_eq!(cleaner.clean(row(" \n", "x", "y")), Verdict::EmptyInstruction);
        assert_eq!(cleaner.clean(row("Say nothing", "", "\u{a0}")), Verdict::EmptyOutput);
        let long = (0..60).map(|number| format!("word{number} ")).collect::<String>();
        assert!(matches!(cleaner.clean(row("Count up.", "", &long)), Verdict::Kept { .. }));
        let near = cleaner.clean(row("Count up!", "", &long));
        assert!(
            matches!(near, Verdict::NearDuplicate { of: 2, similarity } if similarity >= 0.9),
            "{near:?}"
        );
    }

    #[test]
    fn a_threshold_of_zero_keeps_near_duplicates() {
        let mut cleaner = Cleaner::new(0.0, 42).unwrap();
        assert!(matches!(cleaner.clean(row("Say hello to her", "", "Hello")), Verdict::Kept { .. }));
        assert!(matches!(cleaner.clean(row("say hello to her", "", "hello")), Verdict::Kept { .. }));
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let mut cleaner = Cleaner::new(0.0, 42).unwrap();
        assert!(matches!(cleaner.clean(row("a", "b c", "d")), Verdict::Kept { .. }));
        assert!(matches!(cleaner.clean(row("a b", "c", "d")), Verdict::Kept { .. }));
    }

    #[test]
    fn refuses_a_threshold_outside_its_range() {
        let error = Cleaner::new(1.5, 42).err().unwrap().to_string();
        assert_eq!(error, "near_duplicate_threshold is 1.5, and must be between 0 and 1");
    }
}
