//! What was judged, and how it was judged: a pair with its verdicts, and a verdict as a row.

use collimate_generate::FinishReason;
use collimate_judge::{Language, Number, PromptRow, Question};
use serde::{Deserialize, Serialize};

use crate::judge::Templates;

/// A pair without its texts, and the verdicts of both models in both orders.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    pub test_id: u64,
    pub tag: String,
    /// Where the preferred answer stands in the row.
    pub chosen: Number,
    pub language: Language,
    /// Tokens of the longer answer.
    pub length: u64,
    /// On the prompt as it stands, and on the one with the answers in the other order.
    pub base: [Verdict; 2],
    pub tuned: Option<[Verdict; 2]>,
}

/// What a model says in one order.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Verdict {
    /// The number that is named; none where it cannot be read.
    pub number: Option<Number>,
    /// The probability of the first answer's number among both, where it was measured.
    pub first: Option<f64>,
}

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The model.
    Base,
    /// The tuned model.
    Tuned,
}

/// A row of judgements.jsonl.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The number of the raw row.
    pub test_id: u64,
    /// The source of the pair.
    pub tag: String,
    /// 1 for the prompt as it stands, 2 for the one with the answers in the other order.
    pub order: u64,
    /// Who judged.
    pub model: Judge,
    /// Where the preferred answer stands in this order.
    pub chosen: Number,
    /// Where the answer stands that was named; none where it cannot be read.
    pub verdict: Option<Number>,
    /// Whether the preferred answer was named.
    pub right: bool,
    /// The probability of the first answer's number among both, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_probability: Option<f64>,
    /// What was written, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#gen: Option<String>,
    /// Why the text ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
}

impl Pair {
    /// The verdicts of the models that judged.
    pub fn verdicts(&self) -> impl Iterator<Item = (Judge, &[Verdict; 2])> {
        let tuned = self.tuned.as_ref().map(|verdicts| (Judge::Tuned, verdicts));
        [(Judge::Base, &self.base)].into_iter().chain(tuned)
    }
}

impl Judge {
    /// The number of a judgement in the journal.
    pub fn number(self, order: usize) -> u64 {
        let judge = if self == Self::Base { 0 } else { 2 };
        judge + order as u64
    }
}

/// The prompt of a row as it stands, and with the answers in the other order; and whether the template makes the first
/// of them, as it makes the second.
pub(super) fn both_orders(row: &PromptRow, templates: &Templates) -> ([String; 2], bool) {
    let PromptRow { prompt, q, r1, r2, .. } = row;
    let template = templates.of(Language::asked_by(prompt));
    let render = |r1, r2| template.render(&Question { q, r1, r2, told: None });
    ([prompt.clone(), render(r2, r1)], render(r1, r2) == *prompt)
}
