//! Figures group by group: of all pairs that have something in common.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Shortest length of a group, in tokens; each further one is twice as long.
const SHORTEST: u64 = 64;

/// The figures of the pairs that have something in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group<F> {
    /// What, such as `tag` or `length`.
    pub by: String,
    /// Which.
    pub name: String,
    /// Their figures.
    pub figures: F,
}

/// What a group is called; groups stand in the order of their ranks, then of their texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    rank: u64,
    text: String,
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self { rank: 0, text }
    }
}

impl Name {
    /// The group of a length in tokens, such as `64 to 127`.
    pub fn of_length(length: u64) -> Self {
        if length < SHORTEST {
            return Self { rank: 0, text: format!("below {SHORTEST}") };
        }
        let first = SHORTEST << (length / SHORTEST).ilog2();
        Self { rank: first, text: format!("{first} to {}", 2 * first - 1) }
    }
}

/// What pairs of answers are grouped by.
pub(super) const OF_PAIR: [&str; 4] = ["pair_type", "tag", "length", "longer"];

/// The groups of a pair by [`OF_PAIR`], of which these are the columns and the lengths of its answers in tokens.
pub(super) fn of_pair(
    pair_type: &Option<String>,
    tag: &Option<String>,
    [chosen, rejected]: [u64; 2],
) -> [Option<Name>; 4] {
    let longer = match chosen.cmp(&rejected) {
        Ordering::Greater => "chosen",
        Ordering::Less => "rejected",
        Ordering::Equal => "neither",
    };
    let given = |name: &Option<String>| name.clone().map(Name::from);
    let length = Name::of_length(chosen.max(rejected));
    [given(pair_type), given(tag), Some(length), Some(longer.to_owned().into())]
}

/// The groups by each of the features in `by`, of which `names` tells a pair's groups.
pub(super) fn groups<'a, P: 'a, F, const N: usize>(
    pairs: impl Iterator<Item = &'a P>,
    by: [&str; N],
    names: impl Fn(&P) -> [Option<Name>; N],
    figures: impl Fn(&[&P]) -> F,
) -> Vec<Group<F>> {
    let mut members: BTreeMap<(usize, Name), Vec<&P>> = BTreeMap::new();
    for pair in pairs {
        for (feature, name) in names(pair).into_iter().enumerate() {
            if let Some(name) = name {
                members.entry((feature, name)).or_default().push(pair);
            }
        }
    }
    let group = |((feature, name), pairs): ((usize, Name), Vec<&P>)| Group {
        by: by[feature].to_owned(),
        name: name.text,
        figures: figures(&pairs),
    };
    members.into_iter().map(group).collect()
}
