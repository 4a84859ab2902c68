//! What `data inspect` finds out.

use serde::{Deserialize, Serialize};

use crate::statistics::Estimate;

/// What stands in the rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows read, bad ones included; those of unpaired.jsonl only where they are bad.
    pub read: u64,
    /// Rows and ids of each split.
    pub splits: Vec<Split>,
    /// The same by pair_type, where rows have one.
    pub groups: Vec<Group>,
    /// Prompts that came to no pair, where `judge pairs` lists them.
    pub unpaired: Vec<Unpaired>,
    /// How verdicts were read, where `judge pairs` says so.
    pub verdicts: Vec<Verdicts>,
    /// How long prompts and answers are.
    pub lengths: Lengths,
    /// How often the chosen answer stood first in the judge's prompt, where rows have a `chosen_id`, 1 or 2; the rows
    /// of a test_id are counted as one.
    pub chosen_first: Option<Estimate>,
    /// Rows whose prompt and answers repeat those of an earlier row, in whatever split.
    pub duplicates: u64,
    /// Rows whose chosen and rejected answer are the same.
    pub identical: u64,
    /// What stands in more than one split.
    pub leakage: Leakage,
    /// The first row of each pair_type, or of each split where rows have none.
    pub samples: Vec<Sample>,
    /// Bad rows, in rejects.jsonl.
    pub rejected: u64,
}

/// Rows of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Its name.
    pub split: String,
    /// How many there are.
    pub rows: u64,
    /// How many test_ids they have between them, where they have any.
    pub ids: Option<u64>,
}

/// Rows of one pair_type in a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The split.
    pub split: String,
    /// The pair_type.
    pub pair_type: String,
    /// How many there are.
    pub rows: u64,
    /// How many test_ids they have between them, where they have any.
    pub ids: Option<u64>,
}

/// Prompts of a split that came to no pair for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpaired {
    /// The split.
    pub split: String,
    /// Why, such as `all_positive`.
    pub reason: String,
    /// How many there are.
    pub prompts: u64,
}

/// How the verdicts of one file of judgements were read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// The file, without its ending.
    pub file: String,
    /// Verdicts for the better answer.
    pub positive: u64,
    /// Verdicts for the other one.
    pub negative: u64,
    /// Judgements without a verdict that can be read.
    pub unknown: u64,
    /// The share of these. It has no interval: the judgements of a prompt are not independent, and how many of each
    /// prompt's cannot be read is not known.
    pub unreadable: f64,
}

/// What lengths are counted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Unicode characters.
    #[default]
    Characters,
    /// Tokens of the model that was named, without special ones and without a chat template's.
    Tokens,
}

/// How long prompts and answers are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// What is counted.
    pub unit: Unit,
    /// The prompts.
    pub prompt: Option<Spread>,
    /// The chosen answers.
    pub chosen: Option<Spread>,
    /// The rejected answers.
    pub rejected: Option<Spread>,
    /// How often the chosen answer is the longer one of a pair, where there are pairs; the interval heeds that the pairs
    /// of a test_id, or of a prompt where rows have none, are not independent.
    pub chosen_longer: Option<Estimate>,
}

/// Lengths in short; each is that of a real row, so that no length lies between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// At least half are no longer.
    pub median: u32,
    /// At least 95 of 100 are no longer.
    pub p95: u32,
    /// The longest.
    pub max: u32,
}

/// What stands in more than one split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leakage {
    /// The test_ids, where rows have any.
    pub ids: Option<u64>,
    /// The prompts.
    pub prompts: u64,
    /// The first of the test_ids.
    pub first_ids: Vec<String>,
}

/// A row to look at; long texts are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Its split.
    pub split: String,
    /// Its pair_type.
    pub pair_type: Option<String>,
    /// Its test_id.
    pub test_id: Option<String>,
    /// What was asked.
    pub prompt: String,
    /// The preferred answer.
    pub chosen: Option<String>,
    /// The other answer.
    pub rejected: Option<String>,
}
