//! Advantages of whole completions: by how much each is better than those beside it.
//!
//! Rewards come prompt by prompt, `num_generations` completions of each in turn.

use crate::Result;
use crate::named::{Named, by_name};

/// What a spread is kept above when it is divided by; TRL's.
const LEAST_SPREAD: f64 = 1e-4;

/// By which spread rewards are divided; the names are TRL's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScaleRewards {
    /// By that of the completions of the same prompt (Shao et al. 2024, "DeepSeekMath", §4.1.2).
    #[default]
    Group,
    /// By that of the whole batch.
    Batch,
    /// By none (Liu et al. 2025, "Understanding R1-Zero-Like Training: A Critical Perspective", §3.2).
    None,
}

impl Named for ScaleRewards {
    const WHAT: &'static str = "scale_rewards";

    fn all() -> impl Iterator<Item = Self> {
        [Self::Group, Self::Batch, Self::None].into_iter()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Batch => "batch",
            Self::None => "none",
        }
    }
}

by_name!(ScaleRewards);

/// GRPO's advantages: (r - mean of the prompt's rewards) / (standard deviation + 10⁻⁴).
///
/// `rewards`: `[prompts × num_generations]`, as is what is returned. A prompt whose rewards are all the same
/// has advantages of 0.
pub fn group_relative(rewards: &[f64], num_generations: usize, scale: ScaleRewards) -> Vec<f64> {
    let batch = deviation(rewards);
    let group = |group: &[f64]| {
        if are_equal(group) {
            return vec![0.0; group.len()];
        }
        let (mean, own) = (mean(group), deviation(group));
        let spread = match scale {
            ScaleRewards::Group => own + LEAST_SPREAD,
            ScaleRewards::Batch => batch + LEAST_SPREAD,
            ScaleRewards::None => 1.0,
        };
        group.iter().map(|reward| (reward - mean) / spread).collect::<Vec<_>>()
    };
    rewards.chunks(num_generations.max(1)).flat_map(group).collect()
}

/// RLOO's advantages: r - mean of the rewards of the prompt's other completions (Ahmadian et al. 2024, "Back
/// to Basics", eq. 8; Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!").
///
/// `rewards`: `[prompts × num_generations]`, as is what is returned. A completion without others has an
/// advantage of 0.
pub fn leave_one_out(rewards: &[f64], num_generations: usize) -> Vec<f64> {
    let group = |group: &[f64]| {
        if are_equal(group) {
            return vec![0.0; group.len()];
        }
        let sum: f64 = group.iter().sum();
        let others = group.len() as f64 - 1.0;
        let advantage = |&reward: &f64| reward - (sum - reward) / others;
        group.iter().map(advantage).collect::<Vec<_>>()
    };
    rewards.chunks(num_generations.max(1)).flat_map(group).collect()
}

/// Gives the advantages of a batch a mean of 0 and a standard deviation of 1, but for 10⁻⁴: TRL's
/// `normalize_advantages`.
pub fn normalize(advantages: &mut [f64]) {
    let (mean, spread) = (mean(advantages), deviation(advantages) + LEAST_SPREAD);
    advantages.iter_mut().for_each(|advantage| *advantage = (*advantage - mean) / spread);
}

/// Whether all are the same; their mean need not be the same float.
fn are_equal(group: &[f64]) -> bool {
    group.iter().all(|reward| *reward == group[0])
}

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The unbiased variance, with Bessel's correction; 0 of fewer than two.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
    squares / values.len().saturating_sub(1).max(1) as f64
}

/// The standard deviation, with Bessel's correction; 0 of fewer than two.
pub fn deviation(values: &[f64]) -> f64 {
    variance(values).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found_one, expected_one) in found.iter().zip(expected) {
            assert!((found_one - expected_one).abs() < 1e-12, "{found:?} {expected:?}");
        }
    }

    /// Groups (1, 2, 3) and (4, 4, 4): means 2 and 4, standard deviations 1 and 0; over the batch the mean is
    /// 3, and the squares sum up to 4 + 1 + 0 + 3 = 8, so that the deviation is √(8/5).
    #[test]
    fn hand_worked_groups() {
        let rewards = [1.0, 2.0, 3.0, 4.0, 4.0, 4.0];
        let none = [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        assert_eq!(group_relative(&rewards, 3, ScaleRewards::None), none);
        assert_near(&group_relative(&rewards, 3, ScaleRewards::Group), &none.map(|a| a / 1.0001));
        let batch = 1.6f64.sqrt() + 1e-4;
        assert_near(&group_relative(&rewards, 3, ScaleRewards::Batch), &none.map(|a| a / batch));
        assert_eq!(group_relative(&[5.0], 1, ScaleRewards::Group), [0.0]);
    }

    /// 1 - (2 + 3) / 2, 2 - (1 + 3) / 2, 3 - (1 + 2) / 2.
    #[test]
    fn hand_worked_leave_one_out() {
        let mut advantages = leave_one_out(&[1.0, 2.0, 3.0, 4.0, 4.0, 4.0], 3);
        assert_eq!(advantages, [-1.5, 0.0, 1.5, 0.0, 0.0, 0.0]);
        // Their squares sum up to 4.5.
        normalize(&mut advantages);
        let one = 1.5 / (0.9f64.sqrt() + 1e-4);
        assert_near(&advantages, &[-one, 0.0, one, 0.0, 0.0, 0.0]);
        assert_eq!(leave_one_out(&[7.0, 8.0], 1), [0.0, 0.0]);
    }

    /// The mean of three tenths is not a tenth in floats.
    #[test]
    fn equal_rewards_have_advantages_of_exactly_0() {
        assert_ne!(mean(&[0.1; 3]), 0.1);
        for scale in ScaleRewards::all() {
            assert_eq!(group_relative(&[0.1; 3], 3, scale), [0.0; 3]);
        }
        assert_eq!(leave_one_out(&[0.1; 3], 3), [0.0; 3]);
    }

    #[test]
    fn names_are_read_back() {
        for scale in ScaleRewards::all() {
            assert_eq!(scale.to_string().parse::<ScaleRewards>().unwrap(), scale);
        }
        assert!("std".parse::<ScaleRewards>().is_err());
    }
}
