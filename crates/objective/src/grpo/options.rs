//! What a person can choose of GRPO, and which choices go together.

use crate::Metrics;
use crate::error::{Error, Result, not_negative, positive};
use crate::named::{Named, by_name};
use crate::stable::sigmoid;
use crate::surrogate::Clip;

/// The range of ratios where none is given.
const EPSILON: f64 = 0.2;
/// SAPO's temperatures where none are given, the paper's.
const TEMPERATURES: [f64; 2] = [1.0, 1.05];

/// What is summed over the tokens of completions, and what the sum is divided by; the names are TRL's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GrpoLossKind {
    /// The clipped surrogate, a mean over completions of means over tokens: long completions count less by
    /// the token.
    Grpo,
    /// A mean over the tokens of a batch.
    Bnpo,
    /// A sum over tokens, divided by the number of completions and by how long they may be (Liu et al. 2025,
    /// "Understanding R1-Zero-Like Training: A Critical Perspective").
    DrGrpo,
    /// A mean over all tokens (Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at
    /// Scale", eq. 8).
    #[default]
    Dapo,
    /// -min(w, ε_high) A log π, a mean over all tokens; no gradient flows through w, so that no token is left
    /// out (MiniMax 2025, "MiniMax-M1", CISPO).
    Cispo,
    /// -4/τ σ(τ (w - 1)) A, as `grpo` else: a gate in place of the clip (Gao et al. 2025, "Soft Adaptive
    /// Policy Optimization").
    Sapo,
    /// The clipped surrogate, a mean over completions of sums over tokens, to go with ratios of whole
    /// completions (Liu et al. 2026, "Length-Unbiased Sequence Policy Optimization").
    Luspo,
}

impl Named for GrpoLossKind {
    const WHAT: &'static str = "GRPO loss";

    fn all() -> impl Iterator<Item = Self> {
        [Self::Grpo, Self::Bnpo, Self::DrGrpo, Self::Dapo, Self::Cispo, Self::Sapo, Self::Luspo].into_iter()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Grpo => "grpo",
            Self::Bnpo => "bnpo",
            Self::DrGrpo => "dr_grpo",
            Self::Dapo => "dapo",
            Self::Cispo => "cispo",
            Self::Sapo => "sapo",
            Self::Luspo => "luspo",
        }
    }
}

by_name!(GrpoLossKind);

/// What a ratio of policies is of; the names are TRL's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImportanceSamplingLevel {
    /// Of each token.
    #[default]
    Token,
    /// Of a completion: the geometric mean over its tokens.
    Sequence,
}

impl Named for ImportanceSamplingLevel {
    const WHAT: &'static str = "importance_sampling_level";

    fn all() -> impl Iterator<Item = Self> {
        [Self::Token, Self::Sequence].into_iter()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Sequence => "sequence",
        }
    }
}

by_name!(ImportanceSamplingLevel);

/// The options of [`Grpo`](super::Grpo), under TRL's names and with its defaults. `None` is "not given".
#[derive(Debug, Clone, PartialEq)]
pub struct GrpoOptions {
    /// What is summed, and what it is divided by.
    pub loss_type: GrpoLossKind,
    /// Whether ratios are of tokens or of completions.
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// How far below 1 a ratio counts, above 0; 0.2 where not given.
    pub epsilon: Option<f64>,
    /// How far above 1 a ratio counts, above 0; as `epsilon` where not given. The greatest ratio itself for
    /// `cispo`.
    pub epsilon_high: Option<f64>,
    /// The greatest ratio that counts where the advantage is negative, above 1 + `epsilon_high`.
    pub delta: Option<f64>,
    /// The weight of the KL penalty, 0 or above; no reference is needed at 0.
    pub beta: f64,
    /// Whether the penalty is multiplied with the ratio, which makes its gradient that of the reverse KL.
    pub use_bias_correction_kl: bool,
    /// SAPO's temperature of tokens with a positive advantage, above 0; 1 where not given.
    pub sapo_temperature_pos: Option<f64>,
    /// SAPO's temperature of the others, above 0; 1.05 where not given.
    pub sapo_temperature_neg: Option<f64>,
    /// How many tokens a completion may have, above 0; `dr_grpo` divides by it.
    pub max_completion_length: usize,
}

impl Default for GrpoOptions {
    fn default() -> Self {
        Self {
            loss_type: GrpoLossKind::default(),
            importance_sampling_level: ImportanceSamplingLevel::default(),
            epsilon: None,
            epsilon_high: None,
            delta: None,
            beta: 0.0,
            use_bias_correction_kl: true,
            sapo_temperature_pos: None,
            sapo_temperature_neg: None,
            max_completion_length: 512,
        }
    }
}

/// A token's loss for its ratio and advantage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Term {
    /// The clipped surrogate.
    Clipped(Clip),
    /// CISPO's, with the greatest weight.
    Weighted { greatest: f64 },
    /// SAPO's, with its temperatures.
    Gated { good: f64, bad: f64 },
}

/// A loss and its derivatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    pub loss: f64,
    pub by_ratio: f64,
    pub by_log_prob: f64,
}

/// The KL penalty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Penalty {
    pub beta: f64,
    /// Whether it is multiplied with the ratio.
    pub corrected: bool,
}

impl Term {
    /// The loss of a token.
    pub fn value(&self, ratio: f64, advantage: f64, log_prob: f64) -> Value {
        match *self {
            Self::Clipped(clip) => {
                let (loss, by_ratio) = clip.loss(ratio, advantage);
                Value { loss, by_ratio, by_log_prob: 0.0 }
            }
            Self::Weighted { greatest } => {
                let by_log_prob = -ratio.min(greatest) * advantage;
                Value { loss: by_log_prob * log_prob, by_ratio: 0.0, by_log_prob }
            }
            Self::Gated { good, bad } => {
                let temperature = if advantage > 0.0 { good } else { bad };
                let z = temperature * (ratio - 1.0);
                let by_ratio = -4.0 * sigmoid(z) * sigmoid(-z) * advantage;
                Value { loss: -4.0 / temperature * sigmoid(z) * advantage, by_ratio, by_log_prob: 0.0 }
            }
        }
    }

    /// Adds a completion's ratios, given with their advantages, to the metrics, under TRL's names.
    pub fn observe(&self, judged: impl Iterator<Item = (f64, f64)>, ratios: f64, metrics: &mut Metrics) {
        match *self {
            Self::Clipped(clip) => clip.observe(judged, ratios, metrics),
            Self::Weighted { greatest } => {
                let cut = judged.filter(|(ratio, advantage)| *ratio > greatest && *advantage > 0.0);
                metrics.add("cispo_clip_ratio", cut.count() as f64, ratios);
            }
            Self::Gated { .. } => {}
        }
    }
}

impl GrpoOptions {
    /// Checks every option by itself and against the others.
    ///
    /// Errors: a number outside its range, an option without effect, one that the loss cannot do without.
    pub fn check(&self) -> Result<()> {
        self.term()?;
        self.penalty().map(|_| ())
    }

    pub(super) fn term(&self) -> Result<Term> {
        positive("max_completion_length", self.max_completion_length as f64)?;
        match self.loss_type {
            GrpoLossKind::Cispo => self.weighted(),
            GrpoLossKind::Sapo => self.gated(),
            _ => self.clipped(),
        }
    }

    pub(super) fn penalty(&self) -> Result<Option<Penalty>> {
        not_negative("beta", self.beta)?;
        if self.beta > 0.0 {
            return Ok(Some(Penalty { beta: self.beta, corrected: self.use_bias_correction_kl }));
        }
        // Its default is a penalty with the correction: only who turns that off can have meant something.
        let meant = !self.use_bias_correction_kl;
        no_effect(meant, "use_bias_correction_kl", "a KL penalty, beta above 0,").map(|()| None)
    }

    fn clipped(&self) -> Result<Term> {
        self.without_temperatures()?;
        let clip = Clip::new(self.epsilon.unwrap_or(EPSILON), self.epsilon_high)?;
        Ok(Term::Clipped(self.delta.map_or(Ok(clip), |delta| clip.limited(delta))?))
    }

    fn weighted(&self) -> Result<Term> {
        self.without_temperatures()?;
        no_effect(self.epsilon.is_some(), "epsilon", CLIPPED)?;
        no_effect(self.delta.is_some(), "delta", CLIPPED)?;
        let Some(greatest) = self.epsilon_high else {
            let advice = "give the greatest weight of a token, such as 5";
            return Err(Error::Missing { loss: "cispo", option: "epsilon_high", advice });
        };
        positive("epsilon_high", greatest)?;
        Ok(Term::Weighted { greatest })
    }

    fn gated(&self) -> Result<Term> {
        no_effect(self.epsilon.is_some(), "epsilon", CLIPPED)?;
        no_effect(self.epsilon_high.is_some(), "epsilon_high", "the losses that clip, and cispo")?;
        no_effect(self.delta.is_some(), "delta", CLIPPED)?;
        let good = self.sapo_temperature_pos.unwrap_or(TEMPERATURES[0]);
        let bad = self.sapo_temperature_neg.unwrap_or(TEMPERATURES[1]);
        positive("sapo_temperature_pos", good)?;
        positive("sapo_temperature_neg", bad)?;
        Ok(Term::Gated { good, bad })
    }

    fn without_temperatures(&self) -> Result<()> {
        no_effect(self.sapo_temperature_pos.is_some(), "sapo_temperature_pos", "sapo")?;
        no_effect(self.sapo_temperature_neg.is_some(), "sapo_temperature_neg", "sapo")
    }
}

/// The losses that heed `epsilon` and `delta`.
const CLIPPED: &str = "grpo, bnpo, dr_grpo, dapo, luspo";

/// An error where an option is given that only `heeded_by` heeds.
fn no_effect(given: bool, option: &'static str, heeded_by: &str) -> Result<()> {
    if given { Err(Error::NoEffect { option, heeded_by: heeded_by.to_owned() }) } else { Ok(()) }
}
