//! PPO: a policy and its value model, which says what is still to come.
//!
//! Schulman et al. 2017, "Proximal Policy Optimization Algorithms"; Ziegler et al. 2019, "Fine-Tuning
//! Language Models from Human Preferences".

use crate::error::{Result, not_negative, positive};
use crate::pairs::clear;
use crate::stable::growth;
use crate::surrogate::{Clip, log_ratio};
use crate::{Grouping, Metrics, Objective, Scored};

/// The options of [`Ppo`], under TRL's names and with its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct PpoOptions {
    /// How far from 1 a ratio of policies counts, above 0.
    pub cliprange: f64,
    /// How far a value may go from what it was, above 0.
    pub cliprange_value: f64,
    /// The weight of the value loss, 0 or above.
    pub vf_coef: f64,
}

impl Default for PpoOptions {
    fn default() -> Self {
        Self { cliprange: 0.2, cliprange_value: 0.2, vf_coef: 0.1 }
    }
}

/// The clipped surrogate, and `vf_coef` times ½ max((V - R)², (clip(V, V_old - ε, V_old + ε) - R)²), R being
/// the return (eq. 7 and 9; the clipped value loss is OpenAI's and TRL's).
///
/// A completion is a sequence, and each of its targets has a value; the loss is a mean over targets. The KL
/// divergence from the reference is no term of the loss: it is in the rewards that advantages and returns are
/// made of.
#[derive(Debug, Clone)]
pub struct Ppo {
    clip: Clip,
    cliprange_value: f64,
    vf_coef: f64,
}

/// A target's two losses, and their derivatives.
struct Judged {
    ratio: f64,
    log_ratio: f64,
    policy: f64,
    /// Derivative of the policy's loss by the log-prob.
    by_log_prob: f64,
    /// Whether the ratio is cut.
    ratio_cut: bool,
    value: f64,
    /// Derivative of the value's loss by the value.
    by_value: f64,
    /// Whether the value is cut.
    value_cut: bool,
}

impl Ppo {
    /// The objective that the options describe. Errors: a number outside its range.
    pub fn new(options: PpoOptions) -> Result<Self> {
        positive("cliprange", options.cliprange)?;
        positive("cliprange_value", options.cliprange_value)?;
        not_negative("vf_coef", options.vf_coef)?;
        Ok(Self {
            clip: Clip::around(options.cliprange),
            cliprange_value: options.cliprange_value,
            vf_coef: options.vf_coef,
        })
    }

    fn judge(&self, scored: Scored<'_>, target: usize) -> Judged {
        let experience = scored.experience;
        let log_ratio = log_ratio(scored, target);
        let (ratio, slope) = growth(log_ratio);
        let advantage = f64::from(experience.advantages[target]);
        let (policy, by_ratio) = self.clip.loss(ratio, advantage);
        let [value, old, to_learn] =
            [scored.values, &experience.values, &experience.returns].map(|all| f64::from(all[target]));
        let (value, by_value, value_cut) = self.value_loss(value, old, to_learn);
        let ratio_cut = self.clip.cuts(ratio, advantage).contains(&true);
        Judged {
            ratio,
            log_ratio,
            policy,
            by_log_prob: by_ratio * slope,
            ratio_cut,
            value,
            by_value,
            value_cut,
        }
    }

    /// Half of the greater of the two squared errors, its derivative by the value, and whether it is the
    /// clipped one.
    fn value_loss(&self, value: f64, old: f64, to_learn: f64) -> (f64, f64, bool) {
        let clipped = value.clamp(old - self.cliprange_value, old + self.cliprange_value);
        let [free, bound] = [value - to_learn, clipped - to_learn];
        let cut = bound * bound > free * free;
        if cut { (0.5 * bound * bound, 0.0, true) } else { (0.5 * free * free, free, false) }
    }
}

/// Adds a target to the metrics, under TRL's names; means over targets, where TRL's `policy/approxkl_avg` and
/// `val/ratio` count the padding too.
fn observe(judged: &Judged, metrics: &mut Metrics) {
    metrics.add("policy/approxkl_avg", 0.5 * judged.log_ratio * judged.log_ratio, 1.0);
    metrics.add("policy/clipfrac_avg", f64::from(judged.ratio_cut), 1.0);
    metrics.add("loss/policy_avg", judged.policy, 1.0);
    metrics.add("loss/value_avg", judged.value, 1.0);
    metrics.add("val/clipfrac_avg", f64::from(judged.value_cut), 1.0);
    metrics.add("val/ratio", judged.ratio, 1.0);
}

impl Objective for Ppo {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.targets() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        let targets = scored.log_probs.len();
        clear(gradients, targets + scored.values.len());
        let mut sum = 0.0;
        for target in scored.grouping.sequences.iter().cloned().flatten() {
            let judged = self.judge(scored, target);
            sum += (judged.policy + self.vf_coef * judged.value) / total;
            gradients[target] = (judged.by_log_prob / total) as f32;
            gradients[targets + target] = (self.vf_coef * judged.by_value / total) as f32;
            observe(&judged, metrics);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::LN_2;

    use super::*;
    use crate::{Experience, Facts};

    /// A ratio of 2 that is cut at 1.25 and one of ½ that is not, with advantages 4 and 2: losses -5 and -1.
    /// Values 1 and 2, remembered as 0 and 2, held within ½, are to learn -1 and 4: max(2², 1.5²) / 2 = 2 and
    /// 2² / 2. A third is at 1, held at ½, and to learn 2: max(1, 1.5²) / 2 = 1.125. With a weight of ½: L =
    /// (-6 + 0 + 5.125 / 2) / 3.
    #[test]
    fn hand_worked() {
        let mut grouping = Grouping::default();
        grouping.push(0, Facts::default(), [0..2, 2..2, 2..3]);
        let experience = Experience {
            log_probs: vec![-LN_2, LN_2, 0.0],
            advantages: vec![4.0, 2.0, 0.0],
            values: vec![0.0, 2.0, 0.0],
            returns: vec![-1.0, 4.0, 2.0],
        };
        let scored =
            Scored { values: &[1.0, 2.0, 1.0], experience: &experience, ..Scored::new(&[0.0; 3], &grouping) };
        let options = PpoOptions { cliprange: 0.25, cliprange_value: 0.5, vf_coef: 0.5 };
        let (mut gradients, mut metrics) = (vec![9.0], Metrics::default());
        let objective = Ppo::new(options).unwrap();
        let loss = objective.loss(scored, objective.weight(&grouping), &mut gradients, &mut metrics);
        // The inputs are f32: relative rounding 6e-8.
        assert!((loss - (-6.0 + 5.125 / 2.0) / 3.0).abs() < 2e-7, "{loss}");
        let expected = [0.0, -1.0 / 3.0, 0.0, 1.0 / 3.0, -1.0 / 3.0, 0.0];
        for (found, expected) in gradients.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 2e-7, "{gradients:?}");
        }
        let expected = [
            ("policy/approxkl_avg", 2f64.ln().powi(2) / 3.0),
            ("policy/clipfrac_avg", 1.0 / 3.0),
            ("loss/policy_avg", -2.0),
            ("loss/value_avg", 5.125 / 3.0),
            ("val/clipfrac_avg", 1.0 / 3.0),
            ("val/ratio", 3.5 / 3.0),
        ];
        assert!(metrics.means().map(|(name, _)| name).eq(expected.map(|(name, _)| name)));
        for ((name, found), (_, expected)) in metrics.means().zip(expected) {
            assert!((found - expected).abs() < 2e-7, "{name} {found} {expected}");
        }
    }

    #[test]
    fn options_are_checked() {
        let default = PpoOptions::default;
        for options in [
            PpoOptions { cliprange: 0.0, ..default() },
            PpoOptions { cliprange_value: f64::NAN, ..default() },
            PpoOptions { vf_coef: -0.1, ..default() },
        ] {
            assert!(Ppo::new(options).is_err());
        }
    }
}
