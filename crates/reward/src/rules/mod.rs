//! Rewards by rule: pure functions of a completion and its row, one small file each.

mod answer;
mod exact;
mod json;
mod length;
mod numeric;
mod regex;
mod repetition;
mod verdict;
mod verdict_format;

use collimate_run::Context;

use crate::{Error, Item, Result, Reward};

/// What a rule says of a completion; or why it can say nothing, which is the row's fault.
type Mark = Box<dyn Fn(&Item<'_>) -> Result<f64, String>>;

/// A kind of rule, as it is written on the command line.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// What stands before the colon, and in logs.
    pub name: &'static str,
    /// What stands behind it.
    pub argument: Argument,
    /// Makes the rule of its argument, which is empty where none was given; or says what is wrong with that.
    pub open: fn(&str) -> Result<Mark, String>,
}

/// What a kind of reward takes behind its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    /// Nothing.
    None,
    /// Something that may be left out, as it is called in messages.
    Optional(&'static str),
    /// Something, as it is called in messages.
    Required(&'static str),
}

/// All kinds of rules.
pub(crate) const KINDS: [Kind; 8] = [
    Kind { name: "exact", argument: Argument::None, open: exact::open },
    Kind { name: "numeric", argument: Argument::None, open: numeric::open },
    Kind { name: "regex", argument: Argument::Required("PATTERN"), open: regex::open },
    Kind { name: "json", argument: Argument::Optional("SCHEMA_FILE"), open: json::open },
    Kind { name: "verdict", argument: Argument::None, open: verdict::open },
    Kind { name: "verdict_format", argument: Argument::None, open: verdict_format::open },
    Kind { name: "length", argument: Argument::Required("MIN-MAX"), open: length::open },
    Kind { name: "repetition", argument: Argument::Optional("N"), open: repetition::open },
];

/// A rule that is ready to be applied.
pub struct Rule {
    name: &'static str,
    mark: Mark,
}

impl Rule {
    /// A rule of a kind.
    ///
    /// # Errors
    /// What is wrong with its argument.
    pub(crate) fn new(kind: Kind, argument: &str) -> Result<Self, String> {
        Ok(Self { name: kind.name, mark: (kind.open)(argument)? })
    }
}

impl Reward for Rule {
    fn name(&self) -> &str {
        self.name
    }

    fn score(&mut self, items: &[Item<'_>], context: &Context) -> Result<Vec<f64>> {
        let mark = |item: &Item<'_>| {
            context.check()?;
            (self.mark)(item).map_err(|reason| Error::Row {
                reward: self.name.to_owned(),
                row: item.row,
                reason,
            })
        };
        items.iter().map(mark).collect()
    }
}

/// 1 for yes, 0 for no.
fn one_if(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}
