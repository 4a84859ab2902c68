//! Generalised advantage estimation: advantages of single tokens, from rewards and a value model.
//!
//! Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation".

use crate::advantage::{mean, variance};
use crate::error::{Result, in_range};

/// What a variance is kept above when it is divided by; TRL's.
const LEAST_VARIANCE: f64 = 1e-8;

/// How far an advantage looks ahead, under TRL's names and with its defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gae {
    /// γ: what a reward of the next token counts, above 0, up to 1.
    pub gamma: f64,
    /// λ: from 0, which trusts the value model, to 1, which trusts what came.
    pub lam: f64,
}

impl Default for Gae {
    fn default() -> Self {
        Self { gamma: 1.0, lam: 0.95 }
    }
}

/// Of each token of a completion: `[tokens]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// By how much the token is better than what was to be expected.
    pub advantages: Vec<f64>,
    /// What the value model is to learn: advantage and value.
    pub returns: Vec<f64>,
}

impl Gae {
    /// Errors: a number outside its range.
    pub fn check(&self) -> Result<()> {
        let Self { gamma, lam } = *self;
        in_range(gamma > 0.0 && gamma <= 1.0, "gamma", gamma, "above 0, up to 1")?;
        in_range((0.0..=1.0).contains(&lam), "lam", lam, "from 0 to 1")
    }

    /// A_t = δ_t + γ λ A_{t+1} with δ_t = r_t + γ V_{t+1} - V_t (eq. 11 and 16); nothing comes after the last
    /// token.
    ///
    /// `rewards` and `values`: of each token of one completion, `[tokens]`; a value is what was expected
    /// before the token was written.
    pub fn estimate(&self, rewards: &[f64], values: &[f32]) -> Estimate {
        let mut advantages = vec![0.0; rewards.len()];
        let (mut next_advantage, mut next_value) = (0.0, 0.0);
        for ((advantage, reward), &value) in advantages.iter_mut().zip(rewards).zip(values).rev() {
            let value = f64::from(value);
            let surprise = reward + self.gamma * next_value - value;
            *advantage = surprise + self.gamma * self.lam * next_advantage;
            (next_advantage, next_value) = (*advantage, value);
        }
        let returns = advantages.iter().zip(values).map(|(advantage, &value)| advantage + f64::from(value));
        Estimate { returns: returns.collect(), advantages }
    }
}

/// Gives the values of all tokens of a batch, no padding among them, a variance of 1, and a mean of 0 where
/// it is shifted: (x - mean) / √(variance + 10⁻⁸), the variance unbiased. TRL shifts the mean of advantages,
/// not of rewards.
pub fn whiten(values: &mut [f64], shift_mean: bool) {
    let (mean, scale) = (mean(values), (variance(values) + LEAST_VARIANCE).sqrt());
    let kept = if shift_mean { 0.0 } else { mean };
    values.iter_mut().for_each(|value| *value = (*value - mean) / scale + kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// γ = λ = ½ and values (1, 2, 4), a reward of 8 at the end: δ = (0 + 1 - 1, 0 + 2 - 2, 8 - 4) = (0, 0,
    /// 4), so that A = (¼, 1, 4). With λ = 0 they are δ, with γ = λ = 1 what came, without what was expected.
    #[test]
    fn hand_worked() {
        let (rewards, values) = ([0.0, 0.0, 8.0], [1.0, 2.0, 4.0]);
        let estimate = Gae { gamma: 0.5, lam: 0.5 }.estimate(&rewards, &values);
        assert_eq!(estimate, Estimate { advantages: vec![0.25, 1.0, 4.0], returns: vec![1.25, 3.0, 8.0] });
        assert_eq!(Gae { gamma: 0.5, lam: 0.0 }.estimate(&rewards, &values).advantages, [0.0, 0.0, 4.0]);
        let whole = Gae { gamma: 1.0, lam: 1.0 }.estimate(&rewards, &values);
        assert_eq!(whole, Estimate { advantages: vec![7.0, 6.0, 4.0], returns: vec![8.0; 3] });
        assert_eq!(Gae::default().estimate(&[], &[]).returns, [0.0; 0]);
    }

    /// Mean 2, variance (1 + 1) / 2 = 1.
    #[test]
    fn hand_worked_whitening() {
        let mut values = [1.0, 2.0, 3.0];
        whiten(&mut values, true);
        for (value, expected) in values.into_iter().zip([-1.0, 0.0, 1.0]) {
            assert!((value - expected).abs() < 1e-8, "{values:?}");
        }
        let mut values = [1.0, 2.0, 3.0];
        whiten(&mut values, false);
        for (value, expected) in values.into_iter().zip([1.0, 2.0, 3.0]) {
            assert!((value - expected).abs() < 1e-7, "{values:?}");
        }
        let mut single = [5.0];
        whiten(&mut single, true);
        assert_eq!(single, [0.0]);
    }

    #[test]
    fn numbers_are_checked() {
        assert!(Gae::default().check().is_ok());
        for (gamma, lam) in [(0.0, 0.5), (1.1, 0.5), (1.0, -0.1), (f64::NAN, 0.5), (1.0, 1.5)] {
            assert!(Gae { gamma, lam }.check().is_err(), "{gamma} {lam}");
        }
    }
}
