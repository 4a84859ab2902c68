//! Reward models: a value for each answer, learnt from which of two is the better one.
//!
//! Bradley and Terry 1952, "Rank Analysis of Incomplete Block Designs"; Ouyang et al. 2022, "Training
//! language models to follow instructions with human feedback", eq. 1.

use crate::error::{Result, in_range, not_negative};
use crate::losses::sigmoid::smoothed;
use crate::pairs::clear;
use crate::{Facts, Grouping, Metrics, Objective, Scored};

/// The options of [`BradleyTerry`], under TRL's names and with its defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BradleyTerryOptions {
    /// The weight of the term that keeps the two rewards of a pair around 0, 0 or above; TRL recommends 0.01.
    pub center_rewards_coefficient: f64,
    /// How likely a preference is the wrong way round, from 0 to below 0.5.
    pub label_smoothing: f64,
}

/// L = -(1 - ε) log σ(z) - ε log σ(-z) + c (r_c + r_r)², with z = r_c - r_r - margin, the label smoothing ε,
/// which TRL 1.16 does not have here, and c the centring coefficient (Eisenstein et al. 2023, "Helping or
/// Herding? Reward Model Ensembles Mitigate but do not Eliminate Reward Hacking").
///
/// An example is two sequences, chosen and rejected, each with one value, its reward; there are no targets.
/// The loss is a mean over pairs, each multiplied with its weight.
#[derive(Debug, Clone)]
pub struct BradleyTerry {
    options: BradleyTerryOptions,
}

impl BradleyTerry {
    /// The objective that the options describe. Errors: a number outside its range.
    pub fn new(options: BradleyTerryOptions) -> Result<Self> {
        not_negative("center_rewards_coefficient", options.center_rewards_coefficient)?;
        let smoothing = options.label_smoothing;
        in_range((0.0..0.5).contains(&smoothing), "label_smoothing", smoothing, "from 0 to below 0.5")?;
        Ok(Self { options })
    }

    /// The loss of a pair with these rewards, and its derivatives by them.
    fn value(&self, [chosen, rejected]: [f64; 2], margin: f64) -> (f64, [f64; 2]) {
        let (preference, by_difference) = smoothed(chosen - rejected - margin, self.options.label_smoothing);
        let (coefficient, sum) = (self.options.center_rewards_coefficient, chosen + rejected);
        let by_sum = 2.0 * coefficient * sum;
        (preference + coefficient * sum * sum, [by_sum + by_difference, by_sum - by_difference])
    }
}

/// Adds a pair to the metrics, under TRL's names.
fn observe([chosen, rejected]: [f64; 2], metrics: &mut Metrics) {
    metrics.least("min_reward", chosen.min(rejected));
    metrics.add("mean_reward", chosen + rejected, 2.0);
    metrics.greatest("max_reward", chosen.max(rejected));
    metrics.add("accuracy", f64::from(chosen > rejected), 1.0);
    metrics.add("margin", chosen - rejected, 1.0);
}

impl Objective for BradleyTerry {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.examples.len() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        let targets = scored.log_probs.len();
        clear(gradients, targets + scored.values.len());
        let mut sum = 0.0;
        for example in &scored.grouping.examples {
            let first = example.sequences.start;
            let rewards = [first, first + 1].map(|sequence| f64::from(scored.values[sequence]));
            let (loss, slopes) = self.value(rewards, example.facts.margin);
            let factor = example.facts.weight / total;
            sum += factor * loss;
            let pair = slopes.map(|slope| (factor * slope) as f32);
            gradients[targets + first..][..2].copy_from_slice(&pair);
            observe(rewards, metrics);
        }
        sum
    }

    fn check_facts(&self, facts: &Facts) -> Result<()> {
        facts.check(true, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logistic(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// Pairs (2, -1) with margin 1, z = 2, and (0, 1) with weight 3, z = -1; ε = ¼, c = ½:
    /// L = (-¾ log σ(2) - ¼ log σ(-2) + ½ + 3 (-¾ log σ(-1) - ¼ log σ(1) + ½)) / 2.
    #[test]
    fn hand_worked() {
        let mut grouping = Grouping::default();
        grouping.push(0, Facts { margin: 1.0, ..Facts::default() }, [0..0, 0..0]);
        grouping.push(1, Facts { weight: 3.0, ..Facts::default() }, [0..0, 0..0]);
        let scored = Scored { values: &[2.0, -1.0, 0.0, 1.0], ..Scored::new(&[], &grouping) };
        let options = BradleyTerryOptions { center_rewards_coefficient: 0.5, label_smoothing: 0.25 };
        let (mut gradients, mut metrics) = (vec![9.0], Metrics::default());
        let objective = BradleyTerry::new(options).unwrap();
        let loss = objective.loss(scored, objective.weight(&grouping), &mut gradients, &mut metrics);
        let cross = |z: f64| -0.75 * logistic(z).ln() - 0.25 * logistic(-z).ln();
        assert!((loss - (cross(2.0) + 0.5 + 3.0 * (cross(-1.0) + 0.5)) / 2.0).abs() < 1e-15, "{loss}");
        // By z: σ(z) - ¾; by the sum of the rewards, 1 in both pairs: 1.
        let [first, second] = [logistic(2.0) - 0.75, logistic(-1.0) - 0.75];
        let expected = [1.0 + first, 1.0 - first, 3.0 * (1.0 + second), 3.0 * (1.0 - second)];
        assert_eq!(gradients, expected.map(|slope| (slope / 2.0) as f32));
        let expected = [
            ("min_reward", -1.0),
            ("mean_reward", 0.5),
            ("max_reward", 2.0),
            ("accuracy", 0.5),
            ("margin", 1.0),
        ];
        assert_eq!(metrics.means().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn options_and_facts_are_checked() {
        let options = |center_rewards_coefficient, label_smoothing| BradleyTerryOptions {
            center_rewards_coefficient,
            label_smoothing,
        };
        for (coefficient, smoothing) in [(-0.1, 0.0), (f64::INFINITY, 0.0), (0.0, 0.5), (0.0, -0.1)] {
            assert!(BradleyTerry::new(options(coefficient, smoothing)).is_err(), "{coefficient} {smoothing}");
        }
        let objective = BradleyTerry::new(options(0.01, 0.1)).unwrap();
        let facts = Facts { weight: 2.0, margin: -1.0, ..Facts::default() };
        assert!(objective.check_facts(&facts).is_ok());
        assert!(objective.check_facts(&Facts { margin: f64::NAN, ..facts }).is_err());
    }
}
