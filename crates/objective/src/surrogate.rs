//! The clipped surrogate, which GRPO, RLOO and PPO share.
//!
//! Schulman et al. 2017, "Proximal Policy Optimization Algorithms", eq. 7.

use crate::error::{Result, in_range, positive};
use crate::{Metrics, Scored};

/// The range beyond which a ratio of policies no longer counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clip {
    /// 1 - ε_low.
    low: f64,
    /// 1 + ε_high.
    high: f64,
    /// δ: no ratio above it counts, not even one that makes a bad token likelier; infinite without.
    limit: f64,
}

impl Clip {
    /// The range from 1 - `epsilon` to 1 + `epsilon_high`, which is as wide as below where it is not given.
    ///
    /// Errors: a number that is not above 0.
    pub fn new(epsilon: f64, epsilon_high: Option<f64>) -> Result<Self> {
        let high = epsilon_high.unwrap_or(epsilon);
        positive("epsilon", epsilon)?;
        positive("epsilon_high", high)?;
        Ok(Self { high: 1.0 + high, ..Self::around(epsilon) })
    }

    /// The range from 1 - `epsilon` to 1 + `epsilon`.
    pub fn around(epsilon: f64) -> Self {
        Self { low: 1.0 - epsilon, high: 1.0 + epsilon, limit: f64::INFINITY }
    }

    /// The same with two sides (Prime Intellect 2025, "INTELLECT-2", two-sided clipping). Errors: a `delta`
    /// within the range.
    pub fn limited(self, delta: f64) -> Result<Self> {
        in_range(delta > self.high, "delta", delta, "a finite number above 1 + epsilon_high")?;
        Ok(Self { limit: delta, ..self })
    }

    /// -min(min(w, δ) A, clip(w, 1 - ε_low, 1 + ε_high) A), and its derivative by w.
    pub fn loss(&self, ratio: f64, advantage: f64) -> (f64, f64) {
        let (limited, clipped) = (ratio.min(self.limit), ratio.clamp(self.low, self.high));
        let counted = if clipped * advantage < limited * advantage { clipped } else { limited };
        let slope = if counted == ratio { -advantage } else { 0.0 };
        (-counted * advantage, slope)
    }

    /// Whether the ratio is cut at the lower end, and whether at the upper.
    pub fn cuts(&self, ratio: f64, advantage: f64) -> [bool; 2] {
        [ratio < self.low && advantage < 0.0, ratio > self.high && advantage > 0.0]
    }

    /// How many of the ratios, given with their advantages, are cut at the lower end, and how many at the
    /// upper.
    fn count(&self, judged: impl Iterator<Item = (f64, f64)>) -> [f64; 2] {
        judged.fold([0.0; 2], |[low, high], (ratio, advantage)| {
            let [cut_low, cut_high] = self.cuts(ratio, advantage).map(f64::from);
            [low + cut_low, high + cut_high]
        })
    }

    /// Adds a completion to the metrics, under TRL's names: which of its `ratios` are cut.
    pub fn observe(&self, judged: impl Iterator<Item = (f64, f64)>, ratios: f64, metrics: &mut Metrics) {
        if ratios == 0.0 {
            return;
        }
        let [low, high] = self.count(judged);
        metrics.add("clip_ratio/low_mean", low, ratios);
        metrics.least("clip_ratio/low_min", low / ratios);
        metrics.add("clip_ratio/high_mean", high, ratios);
        metrics.greatest("clip_ratio/high_max", high / ratios);
        metrics.add("clip_ratio/region_mean", low + high, ratios);
    }
}

/// log π - log π_old of a target, π_old being the policy that wrote it; 0 where that is the policy in
/// training.
pub(crate) fn log_ratio(scored: Scored<'_>, target: usize) -> f64 {
    match scored.experience.log_probs.as_slice() {
        [] => 0.0,
        old => f64::from(scored.log_probs[target]) - f64::from(old[target]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ε_low = 0.2, ε_high = 0.5, δ = 3. A good token counts up to 1.5 and a bad one down to 0.8; without δ a
    /// bad one counts up to any ratio, with it to 3.
    #[test]
    fn hand_worked() {
        let one_sided = Clip::new(0.2, Some(0.5)).unwrap();
        let two_sided = one_sided.limited(3.0).unwrap();
        for (ratio, advantage, loss, slope) in [
            (1.0, 2.0, -2.0, -2.0),
            (1.25, 2.0, -2.5, -2.0),
            (2.0, 2.0, -3.0, 0.0),
            (0.5, 2.0, -1.0, -2.0),
            (0.5, -2.0, 1.6, 0.0),
            (2.0, -2.0, 4.0, 2.0),
        ] {
            assert_eq!(one_sided.loss(ratio, advantage), (loss, slope), "{ratio} {advantage}");
            assert_eq!(two_sided.loss(ratio, advantage), (loss, slope), "{ratio} {advantage}");
        }
        assert_eq!(one_sided.loss(4.0, -2.0), (8.0, 2.0));
        assert_eq!(two_sided.loss(4.0, -2.0), (6.0, 0.0));
        let judged = [(2.0, 2.0), (2.0, -2.0), (0.5, -2.0), (0.5, -1.0), (1.0, 1.0)];
        assert_eq!(one_sided.count(judged.into_iter()), [2.0, 1.0]);
    }

    #[test]
    fn a_range_is_checked() {
        assert!(Clip::new(0.0, Some(0.2)).is_err());
        assert!(Clip::new(0.2, Some(f64::NAN)).is_err());
        let clip = Clip::new(0.2, None).unwrap();
        assert_eq!(clip.loss(2.0, 1.0), (-1.2, 0.0));
        assert!(clip.limited(1.2).is_err() && clip.limited(f64::INFINITY).is_err());
    }
}
