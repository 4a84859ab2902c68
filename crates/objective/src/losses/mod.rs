//! The losses on preference pairs, under TRL's names: one file each, one line in the list.

mod aot;
mod apo;
mod bco_pair;
mod discopop;
mod exo_pair;
pub(crate) mod hinge;
pub(crate) mod ipo;
mod nca_pair;
mod robust;
mod sft;
pub(crate) mod sigmoid;
mod sppo_hard;

pub(crate) use sft::SFT;

use crate::named::{Named, by_name};

/// Every loss, in the order of TRL's documentation.
const ALL: [&PairLoss; 15] = [
    &sigmoid::SIGMOID,
    &hinge::HINGE,
    &ipo::IPO,
    &exo_pair::EXO_PAIR,
    &nca_pair::NCA_PAIR,
    &robust::ROBUST,
    &bco_pair::BCO_PAIR,
    &sppo_hard::SPPO_HARD,
    &aot::AOT,
    &aot::AOT_UNPAIRED,
    &apo::APO_ZERO,
    &apo::APO_DOWN,
    &discopop::DISCOPOP,
    &SFT,
    &sigmoid::SIGMOID_NORM,
];

/// A loss on preference pairs.
#[derive(Debug)]
pub(crate) struct PairLoss {
    /// Its name in TRL.
    pub name: &'static str,
    /// How it is computed.
    pub form: Form,
    /// What it heeds beyond the two scores and β.
    pub heeds: &'static [Heeded],
}

/// How a loss is computed.
#[derive(Debug)]
pub(crate) enum Form {
    /// From each pair by itself.
    Single(fn(&Pair, &Settings) -> Value),
    /// From the whole batch, one value a pair.
    Across(fn(&[Pair], &Settings) -> Vec<Value>),
    /// From the chosen answer's likelihood alone; see [`Answer::likelihood`](crate::pairs::Answer::likelihood).
    Likelihood,
}

/// What some losses heed and others cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heeded {
    /// Only the difference of the two scores counts, so that what is the same for all answers to a prompt cancels:
    /// the log Z of an f-divergence, a reference that holds all answers for equally likely.
    DifferenceOnly,
    /// The margin by which the chosen answer is the better one.
    Margin,
    /// The weight of a pair.
    Weight,
    /// How many tokens the answers have: the scores are means over them.
    Length,
    /// `label_smoothing`.
    LabelSmoothing,
    /// `discopop_tau`.
    Temperature,
    /// The mean of the rewards so far, [`Settings::shift`].
    RunningMean,
}

/// One answer as a loss sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Side {
    /// log π(y), summed over the answer.
    pub log_prob: f64,
    /// log π_ref(y).
    pub reference: f64,
    /// What the f-divergence makes of their difference; that difference itself with reverse KL. A mean over the
    /// tokens for a loss that heeds [`Heeded::Length`].
    pub score: f64,
}

/// A preference pair as a loss sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Pair {
    /// The better answer.
    pub chosen: Side,
    /// The other.
    pub rejected: Side,
    /// By how much it is better, in units of reward.
    pub margin: f64,
}

impl Pair {
    /// z = β (chosen score - rejected score) - margin: what is to become large. The margin is the offset of ODPO
    /// (Amini et al. 2024, "Direct Preference Optimization with an Offset").
    pub fn advantage(&self, beta: f64) -> f64 {
        beta * (self.chosen.score - self.rejected.score) - self.margin
    }
}

/// The numbers that losses share.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Settings {
    /// What a score is multiplied with to give a reward.
    pub beta: f64,
    /// How likely a preference is the wrong way round.
    pub label_smoothing: f64,
    /// DiscoPOP's τ.
    pub discopop_tau: f64,
    /// BCO's δ: the mean of all rewards so far.
    pub shift: f64,
}

/// A loss and its derivatives by the two scores.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Value {
    /// The loss.
    pub loss: f64,
    /// Its derivative by the chosen score.
    pub chosen: f64,
    /// Its derivative by the rejected score.
    pub rejected: f64,
}

impl Value {
    /// A loss that is a function of [`Pair::advantage`], with `slope` its derivative by that.
    fn of_advantage(loss: f64, slope: f64, beta: f64) -> Self {
        Self { loss, chosen: beta * slope, rejected: -beta * slope }
    }
}

impl PairLoss {
    /// Whether the loss heeds it.
    pub fn heeds(&self, what: Heeded) -> bool {
        self.heeds.contains(&what)
    }

    /// The names of all losses that heed it, for errors.
    pub fn heeding(what: Heeded) -> String {
        let names: Vec<_> = ALL.iter().filter(|loss| loss.heeds(what)).map(|loss| loss.name).collect();
        names.join(", ")
    }
}

/// A loss on preference pairs, by its name.
#[derive(Clone, Copy)]
pub struct PairLossKind(pub(crate) &'static PairLoss);

impl Named for PairLossKind {
    const WHAT: &'static str = "preference loss";

    fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter().map(Self)
    }

    fn name(self) -> &'static str {
        self.0.name
    }
}

by_name!(PairLossKind);

impl Default for PairLossKind {
    fn default() -> Self {
        Self(&sigmoid::SIGMOID)
    }
}

impl PartialEq for PairLossKind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for PairLossKind {}

impl std::fmt::Debug for PairLossKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
