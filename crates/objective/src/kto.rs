//! KTO: single answers, each desirable or not; and APO without pairs.
//!
//! Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization".

use crate::error::{Result, positive};
use crate::named::{Named, by_name};
use crate::pairs::{Answer, Slopes, clear};
use crate::stable::sigmoid;
use crate::{Facts, Grouping, Metrics, Objective, Scored};

/// How a single answer, desirable or not, is judged; the names are TRL's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KtoLossKind {
    /// Against the mean reward of answers that belong to other prompts, an estimate of the KL divergence.
    #[default]
    Kto,
    /// Against the reference alone: APO-zero (D'Oosterlinck et al. 2024, eq. 7), each half by itself.
    ApoZeroUnpaired,
}

impl Named for KtoLossKind {
    const WHAT: &'static str = "KTO loss";

    fn all() -> impl Iterator<Item = Self> {
        [Self::Kto, Self::ApoZeroUnpaired].into_iter()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kto => "kto",
            Self::ApoZeroUnpaired => "apo_zero_unpaired",
        }
    }
}

by_name!(KtoLossKind);

/// The options of [`Kto`], under TRL's names and with its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct KtoOptions {
    /// How an answer is judged.
    pub loss_type: KtoLossKind,
    /// What a log-ratio is multiplied with to give a reward, above 0.
    pub beta: f64,
    /// The weight of desirable answers, λ_D, above 0.
    pub desirable_weight: f64,
    /// The weight of undesirable answers, λ_U, above 0.
    pub undesirable_weight: f64,
}

impl Default for KtoOptions {
    fn default() -> Self {
        Self { loss_type: KtoLossKind::default(), beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0 }
    }
}

/// L = λ_D (1 - σ(β (x - KL))) for a desirable answer and λ_U (1 - σ(β (KL - x))) for an undesirable one, with x its
/// log-ratio to the reference (eq. 7). The loss is a mean over answers, each multiplied with its weight.
///
/// KL = max(0, mean of the log-ratios of answers that belong to other prompts) over the optimiser's whole batch, and no
/// gradient flows through it; an example is then two sequences, the answer and such a one. `apo_zero_unpaired` has KL =
/// 0, and an example is one sequence.
#[derive(Debug, Clone)]
pub struct Kto {
    options: KtoOptions,
}

impl Kto {
    /// The objective that the options describe. Errors: a number outside its range.
    pub fn new(options: KtoOptions) -> Result<Self> {
        positive("beta", options.beta)?;
        positive("desirable_weight", options.desirable_weight)?;
        positive("undesirable_weight", options.undesirable_weight)?;
        Ok(Self { options })
    }

    /// The estimate of the KL divergence of the policy from its reference.
    fn divergence(&self, scored: Scored<'_>) -> f64 {
        let examples = &scored.grouping.examples;
        if self.options.loss_type == KtoLossKind::ApoZeroUnpaired || examples.is_empty() {
            return 0.0;
        }
        let ratios = examples.iter().map(|example| log_ratio(scored, example.sequences.start + 1).1);
        (ratios.sum::<f64>() / examples.len() as f64).max(0.0)
    }

    /// The loss of an answer whose log-ratio is `excess` above the divergence, and its derivative by that.
    fn value(&self, desirable: bool, excess: f64) -> (f64, f64) {
        let (weight, sign) = match desirable {
            true => (self.options.desirable_weight, 1.0),
            false => (self.options.undesirable_weight, -1.0),
        };
        let z = sign * self.options.beta * excess;
        (weight * sigmoid(-z), -weight * sign * self.options.beta * sigmoid(z) * sigmoid(-z))
    }
}

/// Means over the desirable and over the undesirable answers of a batch.
#[derive(Default)]
struct Rewards {
    sums: [f64; 2],
    counts: [f64; 2],
}

impl Rewards {
    fn add(&mut self, desirable: bool, reward: f64, log_prob: f64, metrics: &mut Metrics) {
        let [rewards, log_probs] = match desirable {
            true => ["rewards/chosen", "logps/chosen"],
            false => ["rewards/rejected", "logps/rejected"],
        };
        metrics.add(rewards, reward, 1.0);
        metrics.add(log_probs, log_prob, 1.0);
        self.sums[usize::from(desirable)] += reward;
        self.counts[usize::from(desirable)] += 1.0;
    }

    /// The difference of the two means; answers that are no pairs have a margin only together, so that each batch with
    /// both kinds counts once, as in TRL.
    fn margin(&self) -> Option<f64> {
        let [undesirable, desirable] = [0, 1].map(|kind| self.sums[kind] / self.counts[kind]);
        self.counts.iter().all(|&count| count > 0.0).then_some(desirable - undesirable)
    }
}

/// The answer that a sequence is, and log π(y) - log π_ref(y).
fn log_ratio(scored: Scored<'_>, sequence: usize) -> (Answer, f64) {
    let answer = Answer::whole(scored.grouping, sequence);
    let ratio = answer.sum(scored.log_probs) - answer.sum(scored.reference);
    (answer, ratio)
}

impl Objective for Kto {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.examples.len() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        clear(gradients, scored.log_probs.len());
        let divergence = self.divergence(scored);
        let (mut sum, mut rewards) = (0.0, Rewards::default());
        for example in &scored.grouping.examples {
            let desirable = example.facts.desirable;
            let (answer, ratio) = log_ratio(scored, example.sequences.start);
            let (loss, slope) = self.value(desirable, ratio - divergence);
            let factor = example.facts.weight / total;
            sum += factor * loss;
            answer.write(Slopes { sum: factor * slope, ..Slopes::default() }, gradients);
            rewards.add(desirable, self.options.beta * ratio, answer.sum(scored.log_probs), metrics);
        }
        if let Some(margin) = rewards.margin() {
            metrics.add("rewards/margins", margin, 1.0);
        }
        if self.looks_across() {
            metrics.add("kl", divergence, 1.0);
        }
        sum
    }

    fn check_facts(&self, facts: &Facts) -> Result<()> {
        facts.check(true, false)
    }

    fn needs_reference(&self) -> bool {
        true
    }

    fn looks_across(&self) -> bool {
        self.options.loss_type == KtoLossKind::Kto
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG_PROBS: [f32; 5] = [-1.0, -2.0, -3.0, -5.0, -1.0];
    const REFERENCE: [f32; 5] = [-2.0, -5.0, -4.0, -2.0, -1.0];

    /// Desirable: tokens 0 and 1, log-ratio 4; undesirable: token 3, log-ratio -3. Their neighbours in `kto` are
    /// tokens 2 and 4, log-ratios 1 and 0: KL = ½.
    fn evaluate(options: KtoOptions, facts: [Facts; 2], metrics: &mut Metrics) -> (f64, Vec<f32>) {
        let mut grouping = Grouping::default();
        grouping.push(0, facts[0], [0..2, 2..3]);
        grouping.push(1, facts[1], [3..4, 4..5]);
        let scored = Scored { reference: &REFERENCE, ..Scored::new(&LOG_PROBS, &grouping) };
        let mut gradients = Vec::new();
        (Kto::new(options).unwrap().loss(scored, 2.0, &mut gradients, metrics), gradients)
    }

    fn facts() -> [Facts; 2] {
        [Facts::default(), Facts { desirable: false, weight: 3.0, ..Facts::default() }]
    }

    fn logistic(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// β = ½, λ_D = 2: L = (2 (1 - σ(½ (4 - ½))) + 3 (1 - σ(½ (½ + 3)))) / 2, both σ(1.75), so 2.5 (1 - σ(1.75)).
    #[test]
    fn hand_worked_kto() {
        let options = KtoOptions { beta: 0.5, desirable_weight: 2.0, ..KtoOptions::default() };
        let mut metrics = Metrics::default();
        let (loss, gradients) = evaluate(options, facts(), &mut metrics);
        assert!((loss - 2.5 * logistic(-1.75)).abs() < 1e-15, "{loss}");
        let steepness = 0.5 * logistic(1.75) * logistic(-1.75);
        for (found, expected) in gradients.iter().zip([-steepness, -steepness, 0.0, 1.5 * steepness, 0.0]) {
            assert!((f64::from(*found) - expected).abs() < 1e-8, "{gradients:?}");
        }
        let expected = [
            ("rewards/chosen", 2.0),
            ("logps/chosen", -3.0),
            ("rewards/rejected", -1.5),
            ("logps/rejected", -5.0),
            ("rewards/margins", 3.5),
            ("kl", 0.5),
        ];
        assert_eq!(metrics.means().collect::<Vec<_>>(), expected);
    }

    /// Policy and reference change places: the neighbours' mean log-ratio is -½, which no divergence can be, so that
    /// KL = 0 and both answers are at ½ · -4 and -½ · 3.
    #[test]
    fn a_divergence_is_never_negative() {
        let mut grouping = Grouping::default();
        grouping.push(0, Facts::default(), [0..2, 2..3]);
        grouping.push(1, Facts { desirable: false, ..Facts::default() }, [3..4, 4..5]);
        let scored = Scored { reference: &LOG_PROBS, ..Scored::new(&REFERENCE, &grouping) };
        let (objective, mut metrics) =
            (Kto::new(KtoOptions { beta: 0.5, ..KtoOptions::default() }).unwrap(), Metrics::default());
        let loss = objective.loss(scored, 2.0, &mut Vec::new(), &mut metrics);
        assert!((loss - 0.5 * (logistic(2.0) + logistic(1.5))).abs() < 1e-15, "{loss}");
        assert!(metrics.means().any(|mean| mean == ("kl", 0.0)));
    }

    /// As in [`hand_worked_kto`], without KL: (2 (1 - σ(2)) + 3 σ(-1.5)) / 2.
    #[test]
    fn hand_worked_apo_zero_unpaired() {
        let loss_type = KtoLossKind::ApoZeroUnpaired;
        let options = KtoOptions { loss_type, beta: 0.5, desirable_weight: 2.0, ..KtoOptions::default() };
        let mut metrics = Metrics::default();
        let (loss, _) = evaluate(options, facts(), &mut metrics);
        assert!((loss - logistic(-2.0) - 1.5 * logistic(-1.5)).abs() < 1e-15, "{loss}");
        assert!(metrics.means().all(|(name, _)| name != "kl"));
    }

    #[test]
    fn weights_must_be_above_zero() {
        for options in [
            KtoOptions { beta: 0.0, ..KtoOptions::default() },
            KtoOptions { desirable_weight: 0.0, ..KtoOptions::default() },
            KtoOptions { undesirable_weight: f64::NAN, ..KtoOptions::default() },
        ] {
            assert!(Kto::new(options).is_err());
        }
        assert!(
            Kto::new(KtoOptions::default())
                .unwrap()
                .check_facts(&Facts { margin: 1.0, ..facts()[0] })
                .is_err()
        );
    }

    #[test]
    fn a_name_is_read_back_and_the_nearest_is_offered() {
        for kind in KtoLossKind::all() {
            assert_eq!(kind.to_string().parse::<KtoLossKind>().unwrap(), kind);
        }
        let error = "apo_zero".parse::<KtoLossKind>().unwrap_err();
        assert!(matches!(error, crate::Error::UnknownName { nearest: "apo_zero_unpaired", .. }), "{error}");
    }
}
