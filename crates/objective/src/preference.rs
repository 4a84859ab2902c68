//! DPO and its relatives: losses on preference pairs, relative to a reference model.

mod options;
#[cfg(test)]
mod tests;

pub use options::PreferenceOptions;

use crate::error::Result;
use crate::losses::{Form, Heeded, Pair, PairLoss, Settings, Side};
use crate::pairs::{Answer, Seen, Slopes, clear, observe};
use crate::{FDivergence, Facts, Grouping, Metrics, Objective, Scored};

/// The weighted sum of losses on preference pairs (MPO: Wang et al. 2024, "Enhancing the Reasoning Ability of
/// Multimodal Large Language Models via Mixed Preference Optimization"); DPO where there is one.
///
/// An example is two sequences, chosen and rejected. The loss is a mean over pairs, each multiplied with its weight.
/// Rewards are β (log π(y) - log π_ref(y)), whatever the divergence.
#[derive(Debug, Clone)]
pub struct Preference {
    terms: Vec<Term>,
    settings: Settings,
    divergence: FDivergence,
    /// The alpha divergence's.
    alpha: f64,
    use_weighting: bool,
    ld_alpha: Option<f64>,
    reference_free: bool,
}

/// A loss and its share in the sum.
#[derive(Debug, Clone, Copy)]
struct Term {
    loss: &'static PairLoss,
    weight: f64,
}

/// A pair on its way through the losses.
struct Judged {
    facts: Facts,
    /// WPO's weight; 1 without.
    certainty: f64,
    /// Chosen and rejected.
    answers: [Answer; 2],
    /// log π(y) and log π_ref(y) of each.
    log_probs: [[f64; 2]; 2],
    /// The chosen answer's mean log-prob.
    likelihood: f64,
    slopes: [Slopes; 2],
}

impl Preference {
    /// The objective that the options describe.
    ///
    /// Errors: a number outside its range, an option without effect, losses and options that do not go together.
    pub fn new(options: PreferenceOptions) -> Result<Self> {
        options.check()?;
        Ok(Self {
            terms: options.terms(),
            settings: options.settings(),
            divergence: options.f_divergence_type.unwrap_or_default(),
            alpha: options.alpha(),
            use_weighting: options.use_weighting,
            ld_alpha: options.ld_alpha,
            reference_free: options.reference_free,
        })
    }

    fn heeds(&self, what: Heeded) -> bool {
        self.terms.iter().any(|term| term.loss.heeds(what))
    }

    fn judge(&self, scored: Scored<'_>) -> Vec<Judged> {
        let grouping = scored.grouping;
        let judged = grouping.examples.iter().map(|example| {
            let mut answers = Answer::pair(grouping, example);
            if let Some(weight) = self.ld_alpha {
                answers = Answer::desensitised(answers, weight);
            }
            let log_probs = answers.each_ref().map(|answer| {
                let reference = if self.reference_free { 0.0 } else { answer.sum(scored.reference) };
                [answer.sum(scored.log_probs), reference]
            });
            let certainty = if self.use_weighting { certainty(&answers, scored) } else { 1.0 };
            let likelihood = answers[0].likelihood(scored.log_probs);
            Judged {
                facts: example.facts,
                certainty,
                answers,
                log_probs,
                likelihood,
                slopes: Default::default(),
            }
        });
        judged.collect()
    }

    /// A pair as `loss` sees it, and the derivatives of its two scores by the answers' log-probs.
    fn pair(&self, judged: &Judged, loss: &PairLoss) -> (Pair, [f64; 2]) {
        let side = |at: usize| {
            let [log_prob, reference] = judged.log_probs[at];
            let (score, slope) = self.divergence.score(log_prob - reference, self.alpha);
            let parts = if loss.heeds(Heeded::Length) { judged.answers[at].tokens() } else { 1.0 };
            (Side { log_prob, reference, score: score / parts }, slope / parts)
        };
        let ((chosen, by_chosen), (rejected, by_rejected)) = (side(0), side(1));
        (Pair { chosen, rejected, margin: judged.facts.margin }, [by_chosen, by_rejected])
    }

    /// Adds one term to the slopes; returns its sum over the pairs.
    fn add(&self, term: Term, settings: &Settings, judged: &mut [Judged]) -> f64 {
        let (pairs, slopes): (Vec<_>, Vec<_>) = judged.iter().map(|pair| self.pair(pair, term.loss)).unzip();
        let values: Vec<_> = match term.loss.form {
            Form::Single(value) => pairs.iter().map(|pair| value(pair, settings)).collect(),
            Form::Across(values) => values(&pairs, settings),
            Form::Likelihood => return add_likelihood(term.weight, judged),
        };
        let mut sum = 0.0;
        for ((judged, value), [by_chosen, by_rejected]) in judged.iter_mut().zip(values).zip(slopes) {
            let factor = term.weight * judged.facts.weight * judged.certainty;
            sum += factor * value.loss;
            judged.slopes[0].sum += factor * value.chosen * by_chosen;
            judged.slopes[1].sum += factor * value.rejected * by_rejected;
        }
        sum
    }

    fn observe(&self, judged: &[Judged], metrics: &mut Metrics) {
        for pair in judged {
            let seen = |[log_prob, reference]: [f64; 2]| Seen {
                reward: self.settings.beta * (log_prob - reference),
                log_prob,
            };
            observe(pair.log_probs.map(seen), metrics);
            if self.terms.iter().any(|term| matches!(term.loss.form, Form::Likelihood)) {
                metrics.add("nll_loss", -pair.likelihood, 1.0);
            }
        }
    }
}

/// How likely the two answers are to the policy, weighed against how certain it is at all: the product of
/// exp(mean over the tokens of log p - log Σ p²) (WPO: Zhou et al. 2024, "Enhancing RLHF with Weighted Preference
/// Optimization", eq. 2, sampled alignment). No gradient flows through it.
fn certainty(answers: &[Answer; 2], scored: Scored<'_>) -> f64 {
    let relative =
        |answer: &Answer| answer.likelihood(scored.log_probs) - answer.likelihood(scored.collisions);
    answers.iter().map(relative).sum::<f64>().exp()
}

/// Adds the supervised term, which WPO does not weigh: it is no preference.
fn add_likelihood(weight: f64, judged: &mut [Judged]) -> f64 {
    let mut sum = 0.0;
    for pair in judged {
        let factor = weight * pair.facts.weight;
        sum -= factor * pair.likelihood;
        pair.slopes[0].likelihood -= factor;
    }
    sum
}

impl Objective for Preference {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.examples.len() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        let shift = match scored.carried {
            [sum, count] => sum / count,
            _ => 0.0,
        };
        let settings = Settings { shift, ..self.settings };
        let mut judged = self.judge(scored);
        let sum: f64 = self.terms.iter().map(|&term| self.add(term, &settings, &mut judged)).sum();
        clear(gradients, scored.log_probs.len());
        for pair in &judged {
            for (answer, slopes) in pair.answers.iter().zip(pair.slopes) {
                let share = Slopes { sum: slopes.sum / total, likelihood: slopes.likelihood / total };
                answer.write(share, gradients);
            }
        }
        self.observe(&judged, metrics);
        sum / total
    }

    fn check_facts(&self, facts: &Facts) -> Result<()> {
        // A loss across pairs sets answers of different pairs against each other: no weight is theirs.
        let weight = self.terms.iter().all(|term| term.loss.heeds(Heeded::Weight));
        facts.check(weight, self.heeds(Heeded::Margin))
    }

    fn needs_reference(&self) -> bool {
        !self.reference_free
    }

    fn looks_across(&self) -> bool {
        let across = |term: &Term| matches!(term.loss.form, Form::Across(_));
        self.terms.iter().any(across) || self.heeds(Heeded::RunningMean)
    }

    /// Carries BCO's sum of rewards, and their number.
    fn carry(&self, scored: Scored<'_>, carried: &mut Vec<f64>) {
        if !self.heeds(Heeded::RunningMean) {
            return;
        }
        carried.resize(2, 0.0);
        for [log_prob, reference] in self.judge(scored).iter().flat_map(|pair| pair.log_probs) {
            carried[0] += self.settings.beta * (log_prob - reference);
            carried[1] += 1.0;
        }
    }
}
