//! RLOO: whole completions, each measured against the others of its prompt.
//!
//! Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE-Style Optimization for Learning from Human
//! Feedback in LLMs".

use crate::error::Result;
use crate::pairs::clear;
use crate::stable::growth;
use crate::surrogate::{Clip, log_ratio};
use crate::{Grouping, Metrics, Objective, Scored};

/// The options of [`Rloo`], under TRL's names and with its defaults. `None` is "not given".
#[derive(Debug, Clone, PartialEq)]
pub struct RlooOptions {
    /// How far below 1 a ratio counts, above 0.
    pub epsilon: f64,
    /// How far above 1 a ratio counts, above 0; as `epsilon` where not given.
    pub epsilon_high: Option<f64>,
}

impl Default for RlooOptions {
    fn default() -> Self {
        Self { epsilon: 0.2, epsilon_high: None }
    }
}

/// The clipped surrogate of a completion as one action, w = π(completion) / π_old(completion); where π_old is
/// the policy in training, its gradient is REINFORCE's, -A ∇ log π (eq. 6).
///
/// An example is a prompt, its sequences are the completions, over which the loss is a mean. A completion's
/// advantage stands at each of its targets, and is that of the first. One without targets is masked: it
/// weighs in the mean, and its loss, which has no gradient, is 0 (in TRL -A).
#[derive(Debug, Clone)]
pub struct Rloo {
    clip: Clip,
}

impl Rloo {
    /// The objective that the options describe. Errors: a number outside its range.
    pub fn new(options: RlooOptions) -> Result<Self> {
        Ok(Self { clip: Clip::new(options.epsilon, options.epsilon_high)? })
    }
}

impl Objective for Rloo {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.sequences.len() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        clear(gradients, scored.log_probs.len());
        let mut sum = 0.0;
        for targets in &scored.grouping.sequences {
            let advantages = &scored.experience.advantages[targets.clone()];
            let advantage = advantages.first().map_or(0.0, |&advantage| f64::from(advantage));
            let (ratio, slope) = growth(targets.clone().map(|target| log_ratio(scored, target)).sum());
            let (loss, by_ratio) = self.clip.loss(ratio, advantage);
            sum += loss / total;
            gradients[targets.clone()].fill((by_ratio * slope / total) as f32);
            self.clip.observe(std::iter::once((ratio, advantage)), 1.0, metrics);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::LN_2;

    use super::*;
    use crate::{Experience, Facts};

    /// Ratios 2 · ½ = 1 of a good completion, 2 of a bad one, 1 of a masked one, and 2 of a good one, cut at
    /// 1.5: L = (-3 + 2 · 2 + 0 - 1.5) / 4.
    #[test]
    fn hand_worked() {
        let mut grouping = Grouping::default();
        grouping.push(0, Facts::default(), [0..2, 2..3, 3..3, 3..4]);
        let experience = Experience {
            log_probs: vec![-LN_2, LN_2, -LN_2, -LN_2],
            advantages: vec![3.0, 3.0, -2.0, 1.0],
            ..Experience::default()
        };
        let mut scored = Scored { experience: &experience, ..Scored::new(&[0.0; 4], &grouping) };
        let (mut gradients, mut metrics) = (vec![9.0], Metrics::default());
        let objective = Rloo::new(RlooOptions { epsilon_high: Some(0.5), ..RlooOptions::default() }).unwrap();
        let total = objective.weight(&grouping);
        let loss = objective.loss(scored, total, &mut gradients, &mut metrics);
        // The inputs are f32: relative rounding 6e-8.
        assert!((loss + 0.5 / 4.0).abs() < 2e-7, "{loss}");
        for (found, expected) in gradients.iter().zip([-0.75f32, -0.75, 1.0, 0.0]) {
            assert!((found - expected).abs() < 2e-7, "{gradients:?}");
        }
        let expected = [
            ("clip_ratio/low_mean", 0.0),
            ("clip_ratio/low_min", 0.0),
            ("clip_ratio/high_mean", 0.25),
            ("clip_ratio/high_max", 1.0),
            ("clip_ratio/region_mean", 0.25),
        ];
        assert_eq!(metrics.means().collect::<Vec<_>>(), expected);
        // Nothing remembered: REINFORCE.
        let present = Experience { log_probs: Vec::new(), ..experience.clone() };
        scored.experience = &present;
        assert_eq!(objective.loss(scored, total, &mut gradients, &mut metrics), -0.5);
        assert_eq!(gradients, [-0.75, -0.75, 0.5, -0.25]);
    }

    #[test]
    fn options_are_checked() {
        for (epsilon, epsilon_high) in [(0.0, None), (f64::NAN, Some(0.2)), (0.2, Some(-0.1))] {
            assert!(Rloo::new(RlooOptions { epsilon, epsilon_high }).is_err(), "{epsilon} {epsilon_high:?}");
        }
    }
}
