//! The f-divergences that can bind a policy to its reference.
//!
//! Wang et al. 2023, "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence
//! Constraints" (f-DPO).

use crate::named::{Named, by_name};
use crate::stable::{log_sigmoid, sigmoid, tempered};

/// What an answer's log-ratio x = log π(y) - log π_ref(y) becomes: its score f'(eˣ), which times β is its reward, but
/// for a constant of the prompt (f-DPO, Theorem 1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FDivergence {
    /// x, up to a constant: plain DPO.
    #[default]
    ReverseKl,
    /// 1 - e⁻ˣ.
    ForwardKl,
    /// log 2 + log σ(x).
    JsDivergence,
    /// (1 - e^(-αx)) / α with 0 < α < 1: reverse KL where α goes to 0, forward KL where it goes to 1. The
    /// coefficient is the paper's; TRL 1.16 describes the same but computes with 1 - α.
    AlphaDivergence,
}

impl FDivergence {
    /// The score of a log-ratio, and its derivative; `alpha` counts for the alpha divergence alone.
    pub(crate) fn score(self, log_ratio: f64, alpha: f64) -> (f64, f64) {
        match self {
            Self::ReverseKl => (log_ratio, 1.0),
            Self::ForwardKl => tempered(log_ratio, 1.0),
            Self::JsDivergence => (std::f64::consts::LN_2 + log_sigmoid(log_ratio), sigmoid(-log_ratio)),
            Self::AlphaDivergence => tempered(log_ratio, alpha),
        }
    }
}

impl Named for FDivergence {
    const WHAT: &'static str = "f-divergence";

    fn all() -> impl Iterator<Item = Self> {
        [Self::ReverseKl, Self::ForwardKl, Self::JsDivergence, Self::AlphaDivergence].into_iter()
    }

    fn name(self) -> &'static str {
        match self {
            Self::ReverseKl => "reverse_kl",
            Self::ForwardKl => "forward_kl",
            Self::JsDivergence => "js_divergence",
            Self::AlphaDivergence => "alpha_divergence",
        }
    }
}

by_name!(FDivergence);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// At x = ln 2: forward 1 - 1/2; Jensen-Shannon ln 2 + ln(2/3) = ln(4/3); alpha (1 - 2^(-1/2)) · 2.
    #[test]
    fn hand_worked() {
        let x = 2f64.ln();
        let expected = [x, 0.5, (4.0f64 / 3.0).ln(), 2.0 - 2f64.sqrt()];
        for (divergence, expected) in FDivergence::all().zip(expected) {
            let (score, _) = divergence.score(x, 0.5);
            assert!((score - expected).abs() < 1e-15, "{divergence} {score} {expected}");
        }
    }

    #[test]
    fn slopes_equal_finite_differences() {
        let step = 1e-5;
        for divergence in FDivergence::all() {
            for x in [-70.0, -3.0, -0.1, 0.0, 0.7, 4.0, 90.0] {
                let at = |x: f64| divergence.score(x, 0.5).0;
                let difference = (at(x + step) - at(x - step)) / (2.0 * step);
                let slope = divergence.score(x, 0.5).1;
                // Relative where the slope is e³⁰; the step's square and the rounding of the difference are both
                // below 1e-9 of it.
                assert!(
                    (difference - slope).abs() < 1e-7 * slope.max(1.0),
                    "{divergence} {x} {difference} {slope}"
                );
            }
        }
    }

    #[test]
    fn a_name_is_read_back_and_the_nearest_is_offered() {
        for divergence in FDivergence::all() {
            assert_eq!(divergence.to_string().parse::<FDivergence>().unwrap(), divergence);
        }
        let error = "jsd_divergence".parse::<FDivergence>().unwrap_err();
        assert!(matches!(error, Error::UnknownName { nearest: "js_divergence", .. }), "{error}");
    }
}
