//! The rows that pass between the stages: prompts, and judgements.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The number of an answer in a judge prompt; 1 or 2 in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Number {
    /// The answer that stands first.
    First,
    /// The answer that stands second.
    Second,
}

impl Number {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

impl From<Number> for u8 {
    fn from(number: Number) -> Self {
        match number {
            Number::First => 1,
            Number::Second => 2,
        }
    }
}

impl TryFrom<u8> for Number {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1 => Ok(Self::First),
            2 => Ok(Self::Second),
            _ => Err(format!("the number of an answer is 1 or 2, not {number}")),
        }
    }
}

/// A raw pair as the judge is asked about it: a row of `prompts.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptRow {
    /// What the judge is asked.
    pub prompt: String,
    /// Empty here, the judgement in the files of later stages.
    #[serde(default)]
    pub r#gen: String,
    /// The source of the pair.
    #[serde(default)]
    pub tag: String,
    /// The number of the raw row, counted from 0, the same in all files.
    pub test_id: u64,
    /// Where the preferred answer stands.
    pub chosen: Number,
    /// The question; of a conversation, all of it up to the answers.
    pub q: String,
    /// The first answer.
    pub r1: String,
    /// The second answer.
    pub r2: String,
    /// Other columns of the raw pair, which pass through.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// What the judge wrote: a row of `output.jsonl`, `guide.jsonl` or `guide_reverse.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What the judge was asked, without any hint.
    pub prompt: String,
    /// What it wrote.
    pub r#gen: String,
    /// The source of the pair.
    #[serde(default)]
    pub tag: String,
    /// The number of the raw row.
    pub test_id: u64,
    /// Where the preferred answer stands.
    pub chosen: Number,
    /// The number of the sample among those of the prompt, counted from 0.
    #[serde(default)]
    pub sample: u64,
}

/// A row as columns.
pub fn fields(row: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(row) {
        Ok(Value::Object(fields)) => fields,
        // Both kinds of rows are structs with text keys, which always are objects.
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_have_the_columns_of_the_contract_in_their_order() {
        let row = json!({
            "prompt": "?", "gen": "", "tag": "t", "test_id": 3, "chosen": 2, "q": "Q", "r1": "A", "r2": "B",
            "split": "train",
        });
        let read: PromptRow = serde_json::from_value(row.clone()).unwrap();
        assert_eq!((read.chosen, read.others["split"].as_str()), (Number::Second, Some("train")));
        assert_eq!(Value::Object(fields(&read)).to_string(), row.to_string());
        let row = json!({ "prompt": "?", "gen": "{}", "tag": "", "test_id": 3, "chosen": 1, "sample": 7 });
        let read: Judgement = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(Value::Object(fields(&read)).to_string(), row.to_string());
        for chosen in [json!(0), json!(3), json!("1"), json!(1.5)] {
            let mut row = row.clone();
            row["chosen"] = chosen;
            assert!(serde_json::from_value::<Judgement>(row).is_err());
        }
    }
}
