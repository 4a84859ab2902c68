//! Pairs to train on, made of the judgements of one prompt.

use collimate_run::random::MersenneTwister;
use serde::{Deserialize, Serialize};

use crate::Reading;

/// The most pairs of a right judgement and a wrong one.
const MAX_BEST_OF_N: usize = 3;

/// How the two judgements of a pair came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PairType {
    /// A right sample over a wrong one.
    #[serde(rename = "best_of_n")]
    BestOfN,
    /// A right sample over one that names no answer.
    #[serde(rename = "best_of_n_positive2unknown")]
    BestOfNPositive2Unknown,
    /// The reasons for the right answer over the reasons for the wrong one.
    #[serde(rename = "preamble")]
    Preamble,
    /// The same, where one of the two names no answer or neither does.
    #[serde(rename = "preamble2unknown")]
    Preamble2Unknown,
}

impl PairType {
    /// All of them, in the order in which a prompt's pairs are made.
    pub const ALL: [Self; 4] =
        [Self::BestOfN, Self::BestOfNPositive2Unknown, Self::Preamble, Self::Preamble2Unknown];

    /// The name that files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::BestOfN => "best_of_n",
            Self::BestOfNPositive2Unknown => "best_of_n_positive2unknown",
            Self::Preamble => "preamble",
            Self::Preamble2Unknown => "preamble2unknown",
        }
    }
}

/// Two judgements of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// How they came about.
    pub pair_type: PairType,
    /// The better one.
    pub chosen: String,
    /// The worse one.
    pub rejected: String,
}

/// Why a prompt has no pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpaired {
    /// All samples are right.
    AllPositive,
    /// No sample is right, and some are wrong.
    AllNegative,
    /// No sample names an answer.
    Unreadable,
    /// The two judgements of its only pair are the same text.
    EqualTexts,
}

impl Unpaired {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::AllPositive, Self::AllNegative, Self::Unreadable, Self::EqualTexts];
}

/// Judgements of one prompt and one kind, by their reading, in the order of the samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// Those that name the preferred answer.
    pub positive: Vec<String>,
    /// Those that name the other one.
    pub negative: Vec<String>,
    /// Those that name none.
    pub unknown: Vec<String>,
}

impl Texts {
    /// Adds a judgement.
    pub fn add(&mut self, reading: Reading, text: String) {
        match reading {
            Reading::Positive => self.positive.push(text),
            Reading::Negative => self.negative.push(text),
            Reading::Unknown => self.unknown.push(text),
        }
    }
}

/// All judgements of one prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Samples without a hint.
    pub output: Texts,
    /// Reasons for the preferred answer.
    pub guide: Texts,
    /// Reasons for the other one.
    pub guide_reverse: Texts,
}

/// What was made of the judgements of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paired {
    /// Its pairs, in the order of [`PairType::ALL`].
    pub pairs: Vec<Pair>,
    /// Pairs that were left out because both judgements are the same text.
    pub equal_texts: u64,
    /// Why there is none, if there is none.
    pub unpaired: Option<Unpaired>,
}

impl Judged {
    /// Pairs the judgements. One generator serves all prompts, in their order: it shuffles the right samples,
    /// then the wrong ones, and nothing else, as `random.shuffle` does in CPython.
    pub fn pair(mut self, draws: &mut MersenneTwister) -> Paired {
        draws.shuffle(&mut self.output.positive);
        draws.shuffle(&mut self.output.negative);
        let candidates = self.candidates();
        let made = candidates.len();
        let pairs: Vec<Pair> =
            candidates.into_iter().filter(|(_, chosen, rejected)| chosen != rejected).map(pair).collect();
        let equal_texts = (made - pairs.len()) as u64;
        let unpaired = pairs.is_empty().then(|| self.reason_for_none(equal_texts));
        Paired { pairs, equal_texts, unpaired }
    }

    fn candidates(&self) -> Vec<(PairType, &String, &String)> {
        let Self { output, guide, guide_reverse } = self;
        let best_of_n = output.positive.iter().zip(&output.negative).take(MAX_BEST_OF_N);
        let mut candidates: Vec<_> =
            best_of_n.map(|(right, wrong)| (PairType::BestOfN, right, wrong)).collect();
        let over_unknown = output.positive.first().zip(output.unknown.first());
        candidates.extend(over_unknown.map(|(right, none)| (PairType::BestOfNPositive2Unknown, right, none)));
        let (right, wrong) = (guide.positive.first(), guide_reverse.negative.first());
        let preamble = match right.zip(wrong) {
            Some((right, wrong)) => Some((PairType::Preamble, right, wrong)),
            None if guide.negative.is_empty() && guide_reverse.positive.is_empty() => {
                let both = right.or(guide.unknown.first()).zip(wrong.or(guide_reverse.unknown.first()));
                both.map(|(chosen, rejected)| (PairType::Preamble2Unknown, chosen, rejected))
            }
            None => None,
        };
        candidates.extend(preamble);
        candidates
    }

    fn reason_for_none(&self, equal_texts: u64) -> Unpaired {
        let Texts { positive, negative, .. } = &self.output;
        match (positive.is_empty(), negative.is_empty()) {
            _ if equal_texts > 0 => Unpaired::EqualTexts,
            (false, _) => Unpaired::AllPositive,
            (true, false) => Unpaired::AllNegative,
            (true, true) => Unpaired::Unreadable,
        }
    }
}

fn pair((pair_type, chosen, rejected): (PairType, &String, &String)) -> Pair {
    Pair { pair_type, chosen: chosen.clone(), rejected: rejected.clone() }
}
