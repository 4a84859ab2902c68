//! GRPO and its relatives: completions that are better or worse than those beside them.
//!
//! Shao et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models".

mod options;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use options::{GrpoLossKind, GrpoOptions, ImportanceSamplingLevel};
use options::{Penalty, Term};

use crate::error::Result;
use crate::pairs::clear;
use crate::stable::growth;
use crate::surrogate::log_ratio;
use crate::{Grouping, Metrics, Objective, Scored};

/// The surrogate of completions with advantages, and a KL penalty (eq. 3).
///
/// An example is a prompt, its sequences are the completions; one without targets is masked, and weighs in
/// the means over completions. A completion's ratio is w = π(token) / π_old(token), one for each token, or
/// one for all: the geometric mean (GSPO: Zheng et al. 2025, "Group Sequence Policy Optimization", eq. 7).
/// The penalty is β times the k3 estimate e^x - x - 1, x = log π_ref - log π (eq. 4), multiplied with w where
/// that is corrected (DeepSeek-AI 2025, "DeepSeek-V3.2", eq. 7).
///
/// A batch is one however it is cut, so that `bnpo` and `dapo` are the same here; TRL's `bnpo` is a mean over
/// the tokens of each micro-batch.
#[derive(Debug, Clone)]
pub struct Grpo {
    kind: GrpoLossKind,
    level: ImportanceSamplingLevel,
    term: Term,
    penalty: Option<Penalty>,
    max_completion_length: f64,
}

/// What a token adds to the loss, before it is divided.
struct Token {
    ratio: f64,
    advantage: f64,
    loss: f64,
    divergence: f64,
    /// Derivative by the log of the ratio.
    by_ratio: f64,
    /// Derivative by the log-prob, with the ratio held.
    by_log_prob: f64,
}

impl Grpo {
    /// The objective that the options describe.
    ///
    /// Errors: a number outside its range, an option without effect, one that the loss cannot do without.
    pub fn new(options: GrpoOptions) -> Result<Self> {
        Ok(Self {
            kind: options.loss_type,
            level: options.importance_sampling_level,
            term: options.term()?,
            penalty: options.penalty()?,
            max_completion_length: options.max_completion_length as f64,
        })
    }

    /// The tokens of a completion.
    fn judge(&self, scored: Scored<'_>, targets: &Range<usize>) -> Vec<Token> {
        let log_ratios = targets.clone().map(|target| log_ratio(scored, target));
        let whole = match self.level {
            ImportanceSamplingLevel::Token => None,
            ImportanceSamplingLevel::Sequence => Some(log_ratios.clone().sum::<f64>() / targets.len() as f64),
        };
        let tokens = targets.clone().zip(log_ratios);
        tokens.map(|(target, own)| self.token(scored, target, whole.unwrap_or(own))).collect()
    }

    fn token(&self, scored: Scored<'_>, target: usize, log_ratio: f64) -> Token {
        let (ratio, slope) = growth(log_ratio);
        let advantage = f64::from(scored.experience.advantages[target]);
        let log_prob = f64::from(scored.log_probs[target]);
        let value = self.term.value(ratio, advantage, log_prob);
        let mut token = Token {
            ratio,
            advantage,
            loss: value.loss,
            divergence: 0.0,
            by_ratio: value.by_ratio * slope,
            by_log_prob: value.by_log_prob,
        };
        if let Some(Penalty { beta, corrected }) = self.penalty {
            let excess = f64::from(scored.reference[target]) - log_prob;
            let (odds, steepness) = growth(excess);
            let (divergence, by_log_prob) = (odds - 1.0 - excess, 1.0 - steepness);
            let weight = if corrected { ratio } else { 1.0 };
            token.divergence = weight * divergence;
            token.loss += beta * token.divergence;
            token.by_log_prob += beta * weight * by_log_prob;
            token.by_ratio += if corrected { beta * divergence * slope } else { 0.0 };
        }
        token
    }

    /// Writes the derivatives by a completion's log-probs, `share` of what its tokens say.
    fn write(&self, tokens: &[Token], share: f64, gradients: &mut [f32]) {
        let mean = tokens.iter().map(|token| token.by_ratio).sum::<f64>() / tokens.len() as f64;
        for (gradient, token) in gradients.iter_mut().zip(tokens) {
            let by_ratio = match self.level {
                ImportanceSamplingLevel::Token => token.by_ratio,
                ImportanceSamplingLevel::Sequence => mean,
            };
            *gradient = (share * (token.by_log_prob + by_ratio)) as f32;
        }
    }

    fn observe(&self, tokens: &[Token], metrics: &mut Metrics) {
        let ratios = match self.level {
            ImportanceSamplingLevel::Token => tokens.len(),
            ImportanceSamplingLevel::Sequence => 1,
        };
        let judged = tokens.iter().take(ratios).map(|token| (token.ratio, token.advantage));
        self.term.observe(judged, ratios as f64, metrics);
        if self.penalty.is_some() {
            let divergence = tokens.iter().map(|token| token.divergence).sum();
            metrics.add("kl", divergence, tokens.len() as f64);
        }
    }
}

impl Objective for Grpo {
    /// Completions, tokens, or with `dr_grpo` the tokens that there were if all completions were as long as
    /// they may.
    fn weight(&self, grouping: &Grouping) -> f64 {
        let completions = grouping.sequences.len() as f64;
        match self.kind {
            GrpoLossKind::Grpo | GrpoLossKind::Sapo | GrpoLossKind::Luspo => completions,
            GrpoLossKind::Bnpo | GrpoLossKind::Dapo | GrpoLossKind::Cispo => grouping.targets() as f64,
            GrpoLossKind::DrGrpo => completions * self.max_completion_length,
        }
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        clear(gradients, scored.log_probs.len());
        let mut sum = 0.0;
        for targets in &scored.grouping.sequences {
            let tokens = self.judge(scored, targets);
            let parts = match self.kind {
                GrpoLossKind::Grpo | GrpoLossKind::Sapo => tokens.len().max(1) as f64,
                _ => 1.0,
            };
            let share = 1.0 / (parts * total);
            sum += tokens.iter().map(|token| share * token.loss).sum::<f64>();
            self.write(&tokens, share, &mut gradients[targets.clone()]);
            self.observe(&tokens, metrics);
        }
        sum
    }

    fn needs_reference(&self) -> bool {
        self.penalty.is_some()
    }
}
