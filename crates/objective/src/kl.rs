//! What binds a policy to its reference through rewards: the KL divergence of each token, and its cost.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, not_negative, positive};
use crate::named::{Named, by_name};
use crate::stable::growth;

/// How the KL divergence is estimated from the token that was written; the names are TRL's.
///
/// Schulman 2020, "Approximating KL Divergence".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KlEstimator {
    /// log π - log π_ref: unbiased, and negative for some tokens.
    #[default]
    K1,
    /// e^x - x - 1 with x = log π_ref - log π: unbiased too, never negative, of less variance.
    K3,
}

impl Named for KlEstimator {
    const WHAT: &'static str = "kl_estimator";

    fn all() -> impl Iterator<Item = Self> {
        [Self::K1, Self::K3].into_iter()
    }

    fn name(self) -> &'static str {
        match self {
            Self::K1 => "k1",
            Self::K3 => "k3",
        }
    }
}

by_name!(KlEstimator);

impl KlEstimator {
    /// The estimate at each token: `[tokens]`, of log-probs under the policy that wrote them and under the
    /// reference.
    pub fn estimates(self, log_probs: &[f32], reference: &[f32]) -> Vec<f64> {
        let excess = |(&policy, &reference): (&f32, &f32)| f64::from(reference) - f64::from(policy);
        let estimate = |excess: f64| match self {
            Self::K1 => -excess,
            Self::K3 => growth(excess).0 - 1.0 - excess,
        };
        log_probs.iter().zip(reference).map(excess).map(estimate).collect()
    }
}

/// The rewards of a completion's tokens: -coefficient · KL at each, and the completion's own at the last
/// (Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences", eq. 2).
///
/// `divergences`: `[tokens]`, see [`KlEstimator::estimates`]. TRL's last reward comes one token later, in the
/// padding, where there is room.
pub fn token_rewards(divergences: &[f64], coefficient: f64, reward: f64) -> Vec<f64> {
    let mut rewards: Vec<_> = divergences.iter().map(|divergence| -coefficient * divergence).collect();
    if let Some(last) = rewards.last_mut() {
        *last += reward;
    }
    rewards
}

/// The options of [`KlController`]. `None` is "not given".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlControl {
    /// What a unit of KL divergence costs at first, 0 or above; TRL's name.
    pub kl_coef: f64,
    /// The KL divergence of a completion that is to be kept, above 0; the cost stays as it is where not
    /// given.
    pub kl_target: Option<f64>,
    /// After how many completions the cost has followed the error, above 0; 10000 where not given.
    pub kl_horizon: Option<f64>,
}

impl Default for KlControl {
    fn default() -> Self {
        Self { kl_coef: 0.05, kl_target: None, kl_horizon: None }
    }
}

/// What a unit of KL divergence costs: always the same, or more while the divergence is above its target
/// (Ziegler et al. 2019, §2.2). It is written into checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KlController {
    coefficient: f64,
    adaptation: Option<Adaptation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Adaptation {
    target: f64,
    horizon: f64,
}

/// The horizon where none is given, that of the paper's code.
const HORIZON: f64 = 10_000.0;
/// The greatest error that is heeded, as a share of the target; the paper's.
const GREATEST_ERROR: f64 = 0.2;

impl KlController {
    /// As the options say, before the first step.
    ///
    /// Errors: a number outside its range, a horizon without a target, a target with a cost that stays 0.
    pub fn new(options: KlControl) -> Result<Self> {
        let KlControl { kl_coef, kl_target, kl_horizon } = options;
        let Some(target) = kl_target else {
            not_negative("kl_coef", kl_coef)?;
            return match kl_horizon {
                None => Ok(Self { coefficient: kl_coef, adaptation: None }),
                Some(_) => Err(Error::NoEffect { option: "kl_horizon", heeded_by: "kl_target".to_owned() }),
            };
        };
        let horizon = kl_horizon.unwrap_or(HORIZON);
        positive("kl_coef", kl_coef)?;
        positive("kl_target", target)?;
        positive("kl_horizon", horizon)?;
        Ok(Self { coefficient: kl_coef, adaptation: Some(Adaptation { target, horizon }) })
    }

    /// The present cost.
    pub fn coefficient(&self) -> f64 {
        self.coefficient
    }

    /// Heeds a batch of completions, whose mean KL divergence, each summed over its tokens, is `divergence`:
    /// β ← β (1 + e n / horizon) with e = clip(KL / target - 1, -0.2, 0.2), n being the number of
    /// completions, at most the horizon.
    pub fn heed(&mut self, divergence: f64, completions: usize) {
        if let Some(Adaptation { target, horizon }) = self.adaptation {
            let error = (divergence / target - 1.0).clamp(-GREATEST_ERROR, GREATEST_ERROR);
            // A batch beyond the horizon must not turn the cost around.
            self.coefficient *= 1.0 + error * (completions as f64 / horizon).min(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// log-ratios ln 2 and -ln 2: k3 is ½ - 1 + ln 2 and 2 - 1 - ln 2.
    #[test]
    fn hand_worked_rewards() {
        let ln_2 = std::f32::consts::LN_2;
        let (log_probs, reference) = ([0.0, -ln_2], [-ln_2, 0.0]);
        let k1 = KlEstimator::K1.estimates(&log_probs, &reference);
        assert_eq!(k1, [f64::from(ln_2), -f64::from(ln_2)]);
        let k3 = KlEstimator::K3.estimates(&log_probs, &reference);
        for (found, expected) in k3.iter().zip([2f64.ln() - 0.5, 1.0 - 2f64.ln()]) {
            // The inputs are f32: relative rounding 6e-8.
            assert!((found - expected).abs() < 1e-7, "{k3:?}");
        }
        assert_eq!(token_rewards(&[0.5, -0.25, 1.0], 0.5, 3.0), [-0.25, 0.125, 2.5]);
        assert_eq!(token_rewards(&[], 0.5, 3.0), [0.0; 0]);
    }

    /// Target 4, horizon 100, batches of 10: a divergence of 4.4 is an error of 0.1, one of 40 of no more
    /// than 0.2.
    #[test]
    fn a_cost_follows_the_error() {
        let options = KlControl { kl_coef: 1.0, kl_target: Some(4.0), kl_horizon: Some(100.0) };
        let mut controller = KlController::new(options).unwrap();
        for (divergence, factor) in [(4.4, 1.01), (40.0, 1.02), (4.0, 1.0), (0.0, 0.98)] {
            let before = controller.coefficient();
            controller.heed(divergence, 10);
            let expected = before * factor;
            assert!((controller.coefficient() - expected).abs() < 1e-15, "{controller:?} {expected}");
        }
        let text = serde_json::to_string(&controller).unwrap();
        assert_eq!(serde_json::from_str::<KlController>(&text).unwrap(), controller);
        let before = controller.coefficient();
        controller.heed(0.0, 1000);
        assert_eq!(controller.coefficient(), before * 0.8);
    }

    #[test]
    fn a_fixed_cost_stays() {
        let mut controller = KlController::new(KlControl::default()).unwrap();
        controller.heed(1e9, 1000);
        assert_eq!(controller.coefficient(), 0.05);
    }

    #[test]
    fn options_are_checked() {
        for (kl_coef, kl_target, kl_horizon) in [
            (-0.1, None, None),
            (0.1, None, Some(100.0)),
            (0.0, Some(1.0), None),
            (0.1, Some(0.0), None),
            (0.1, Some(1.0), Some(0.0)),
        ] {
            let options = KlControl { kl_coef, kl_target, kl_horizon };
            assert!(KlController::new(options).is_err(), "{options:?}");
        }
        for estimator in KlEstimator::all() {
            assert_eq!(estimator.to_string().parse::<KlEstimator>().unwrap(), estimator);
        }
        assert!("k2".parse::<KlEstimator>().is_err());
    }
}
