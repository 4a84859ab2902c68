//! ORPO: fine-tuning with an odds ratio between chosen and rejected, without a reference model.
//!
//! Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model".

use crate::error::{Result, positive};
use crate::pairs::{Answer, Seen, Slopes, clear, observe};
use crate::stable::{log_sigmoid, sigmoid};
use crate::{Facts, Grouping, Metrics, Objective, Scored};

/// The nearest that a mean log-prob is taken to come to 0, where odds are infinite: what f32 tells from certainty.
const CERTAIN: f64 = -(f32::EPSILON as f64) / 2.0;

/// The options of [`Orpo`].
#[derive(Debug, Clone, PartialEq)]
pub struct OrpoOptions {
    /// The weight of the odds ratio against the cross-entropy, above 0; the paper's λ.
    pub beta: f64,
}

impl Default for OrpoOptions {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// L = -log p_c - β log σ(log odds(p_c) - log odds(p_r)) with odds(p) = p / (1 - p) and log p the mean log-prob of an
/// answer's tokens (eq. 3, 4, 6 and 7). An example is two sequences, chosen and rejected; the loss is a mean over pairs.
///
/// The first term is the paper's cross-entropy of the chosen answer, for each pair a mean over its tokens. TRL 1.16
/// takes it over prompt and answer, and over the tokens of a micro-batch together.
#[derive(Debug, Clone)]
pub struct Orpo {
    beta: f64,
}

impl Orpo {
    /// The objective that the options describe. Errors: a `beta` that is not above 0.
    pub fn new(options: OrpoOptions) -> Result<Self> {
        positive("beta", options.beta)?;
        Ok(Self { beta: options.beta })
    }
}

/// log odds of e^x, and its derivative 1 / (1 - e^x).
fn log_odds(mean: f64) -> (f64, f64) {
    let mean = mean.min(CERTAIN);
    let complement = -mean.exp_m1();
    (mean - complement.ln(), 1.0 / complement)
}

impl Objective for Orpo {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.examples.len() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        clear(gradients, scored.log_probs.len());
        let mut sum = 0.0;
        for example in &scored.grouping.examples {
            let answers = Answer::pair(scored.grouping, example);
            let means = answers.each_ref().map(|answer| answer.likelihood(scored.log_probs));
            let [(chosen, by_chosen), (rejected, by_rejected)] = means.map(log_odds);
            let (odds, ratio) = (chosen - rejected, log_sigmoid(chosen - rejected));
            let pull = self.beta * sigmoid(-odds);
            let factor = example.facts.weight / total;
            sum += factor * (-means[0] - self.beta * ratio);
            for (answer, slope) in answers.iter().zip([-1.0 - pull * by_chosen, pull * by_rejected]) {
                answer.write(Slopes { likelihood: factor * slope, ..Slopes::default() }, gradients);
            }
            observe(means.map(|mean| Seen { reward: self.beta * mean, log_prob: mean }), metrics);
            metrics.add("nll_loss", -means[0], 1.0);
            metrics.add("log_odds_ratio", ratio, 1.0);
            metrics.add("log_odds_chosen", odds, 1.0);
        }
        sum
    }

    fn check_facts(&self, facts: &Facts) -> Result<()> {
        facts.check(true, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// p_c = 1/2 (odds 1) and p_r = 1/4 (odds 1/3), β = 1/2: the odds ratio is 3, so that
    /// L = ln 2 - ½ ln(3/4); by log p_c: -1 - ½ · (1/4) / (1/2) = -1.25, by log p_r: ½ · (1/4) / (3/4) = 1/6.
    #[test]
    fn hand_worked() {
        let log_probs = [0.5f32.ln(), 0.5f32.ln(), 0.25f32.ln()];
        let mut grouping = Grouping::default();
        grouping.push(0, Facts::default(), [0..2, 2..3]);
        let scored = Scored::new(&log_probs, &grouping);
        let (mut gradients, mut metrics) = (Vec::new(), Metrics::default());
        let loss =
            Orpo::new(OrpoOptions { beta: 0.5 }).unwrap().loss(scored, 1.0, &mut gradients, &mut metrics);
        // The inputs are f32: relative rounding 6e-8.
        assert!((loss - (2f64.ln() - 0.5 * 0.75f64.ln())).abs() < 2e-7, "{loss}");
        for (gradient, expected) in gradients.iter().zip([-0.625, -0.625, 1.0 / 6.0]) {
            assert!((f64::from(*gradient) - expected).abs() < 2e-7, "{gradients:?}");
        }
        let odds = metrics.means().find(|(name, _)| *name == "log_odds_chosen").unwrap().1;
        assert!((odds - 3f64.ln()).abs() < 2e-7, "{odds}");
    }

    #[test]
    fn certainty_has_finite_odds() {
        for mean in [0.0, -1e-12, -1e-3, -1e4] {
            let (odds, slope) = log_odds(mean);
            assert!(odds.is_finite() && slope.is_finite(), "{mean} {odds} {slope}");
        }
    }
}
