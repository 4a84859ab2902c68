//! CPO and SimPO: preference pairs without a reference model.
//!
//! Xu et al. 2024, "Contrastive Preference Optimization"; Meng et al. 2024, "SimPO: Simple Preference Optimization
//! with a Reference-Free Reward".

use crate::error::{Error, Result, in_range, not_negative, positive};
use crate::losses::{Pair, Settings, Side, Value, hinge, ipo, sigmoid};
use crate::named::{Named, by_name};
use crate::pairs::{Answer, Seen, Slopes, clear, observe};
use crate::stable::tempered;
use crate::{Facts, Grouping, Metrics, Objective, Scored};

/// SimPO's γ where none is given.
const GAMMA: f64 = 0.5;

/// How chosen is set against rejected, without a reference; the names are TRL's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CpoLossKind {
    /// CPO's own (eq. 3): DPO on sums of log-probs.
    #[default]
    Sigmoid,
    /// SLiC's hinge on sums of log-probs.
    Hinge,
    /// IPO on means of log-probs.
    Ipo,
    /// SimPO (eq. 6): DPO on means of log-probs, with the margin `simpo_gamma`.
    Simpo,
}

impl CpoLossKind {
    /// The loss on the two scores.
    fn value(self, pair: &Pair, settings: &Settings) -> Value {
        match self {
            Self::Sigmoid | Self::Simpo => sigmoid::value(pair, settings),
            Self::Hinge => hinge::value(pair, settings),
            Self::Ipo => ipo::value(pair, settings),
        }
    }

    /// Whether it sees means of log-probs, not sums.
    fn averages(self) -> bool {
        matches!(self, Self::Ipo | Self::Simpo)
    }
}

impl Named for CpoLossKind {
    const WHAT: &'static str = "CPO loss";

    fn all() -> impl Iterator<Item = Self> {
        [Self::Sigmoid, Self::Hinge, Self::Ipo, Self::Simpo].into_iter()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Hinge => "hinge",
            Self::Ipo => "ipo",
            Self::Simpo => "simpo",
        }
    }
}

by_name!(CpoLossKind);

/// The options of [`Cpo`], under TRL's names and with its defaults. `None` is "not given".
#[derive(Debug, Clone, PartialEq)]
pub struct CpoOptions {
    /// How chosen is set against rejected.
    pub loss_type: CpoLossKind,
    /// What a score is multiplied with to give a reward, above 0.
    pub beta: f64,
    /// How likely a preference is the wrong way round, from 0 to below 0.5; 0 where not given.
    pub label_smoothing: Option<f64>,
    /// The weight of the chosen answer's cross-entropy; 0 for SimPO as it was published.
    pub cpo_alpha: f64,
    /// SimPO's target reward margin; 0.5 where not given.
    pub simpo_gamma: Option<f64>,
    /// AlphaPO's α (Gupta et al. 2025, "AlphaPO: Reward Shape Matters for LLM Alignment"): scores become
    /// (1 - e^(-αx)) / α; 0 leaves them as they are.
    pub alpha: f64,
}

impl Default for CpoOptions {
    fn default() -> Self {
        Self {
            loss_type: CpoLossKind::default(),
            beta: 0.1,
            label_smoothing: None,
            cpo_alpha: 1.0,
            simpo_gamma: None,
            alpha: 0.0,
        }
    }
}

impl CpoOptions {
    /// Checks every option by itself and against the others. Errors: a number outside its range, an option without
    /// effect.
    pub fn check(&self) -> Result<()> {
        positive("beta", self.beta)?;
        not_negative("cpo_alpha", self.cpo_alpha)?;
        in_range(true, "alpha", self.alpha, "a finite number")?;
        if let Some(smoothing) = self.label_smoothing {
            in_range((0.0..0.5).contains(&smoothing), "label_smoothing", smoothing, "from 0 to below 0.5")?;
            if matches!(self.loss_type, CpoLossKind::Hinge | CpoLossKind::Ipo) {
                let heeded_by = "sigmoid, simpo".to_owned();
                return Err(Error::NoEffect { option: "label_smoothing", heeded_by });
            }
        }
        if let Some(gamma) = self.simpo_gamma {
            not_negative("simpo_gamma", gamma)?;
            if self.loss_type != CpoLossKind::Simpo {
                return Err(Error::NoEffect { option: "simpo_gamma", heeded_by: "simpo".to_owned() });
            }
        }
        Ok(())
    }
}

/// A loss on pairs without a reference, and `cpo_alpha` times the chosen answer's cross-entropy. An example is two
/// sequences, chosen and rejected; the loss is a mean over pairs.
///
/// The cross-entropy is for each pair a mean over its tokens. The CPO paper has a sum, and its code and TRL 1.16 a mean
/// over all chosen tokens of a micro-batch, which is the same on answers of equal length.
#[derive(Debug, Clone)]
pub struct Cpo {
    kind: CpoLossKind,
    settings: Settings,
    cpo_alpha: f64,
    gamma: f64,
    alpha: f64,
}

impl Cpo {
    /// The objective that the options describe. Errors: those of [`CpoOptions::check`].
    pub fn new(options: CpoOptions) -> Result<Self> {
        options.check()?;
        let gamma = options.simpo_gamma.unwrap_or(GAMMA);
        Ok(Self {
            kind: options.loss_type,
            settings: Settings {
                beta: options.beta,
                label_smoothing: options.label_smoothing.unwrap_or_default(),
                ..Settings::default()
            },
            cpo_alpha: options.cpo_alpha,
            gamma: if options.loss_type == CpoLossKind::Simpo { gamma } else { 0.0 },
            alpha: options.alpha,
        })
    }
}

impl Objective for Cpo {
    fn weight(&self, grouping: &Grouping) -> f64 {
        grouping.examples.len() as f64
    }

    fn loss(&self, scored: Scored<'_>, total: f64, gradients: &mut Vec<f32>, metrics: &mut Metrics) -> f64 {
        clear(gradients, scored.log_probs.len());
        let mut sum = 0.0;
        for example in &scored.grouping.examples {
            let answers = Answer::pair(scored.grouping, example);
            let likelihood = answers[0].likelihood(scored.log_probs);
            let log_probs = answers.each_ref().map(|answer| match self.kind.averages() {
                true => answer.likelihood(scored.log_probs),
                false => answer.sum(scored.log_probs),
            });
            let [(chosen, by_chosen), (rejected, by_rejected)] = log_probs.map(|x| tempered(x, self.alpha));
            let side = |score| Side { score, ..Side::default() };
            let margin = self.gamma + example.facts.margin;
            let pair = Pair { chosen: side(chosen), rejected: side(rejected), margin };
            let value = self.kind.value(&pair, &self.settings);
            let factor = example.facts.weight / total;
            sum += factor * (value.loss - self.cpo_alpha * likelihood);
            let slopes = [value.chosen * by_chosen, value.rejected * by_rejected];
            for ((answer, slope), supervised) in answers.iter().zip(slopes).zip([self.cpo_alpha, 0.0]) {
                answer.write(self.slopes(factor * slope, factor * supervised), gradients);
            }
            let seen = |score, log_prob| Seen { reward: self.settings.beta * score, log_prob };
            observe([seen(chosen, log_probs[0]), seen(rejected, log_probs[1])], metrics);
            if self.cpo_alpha > 0.0 {
                metrics.add("nll_loss", -likelihood, 1.0);
            }
        }
        sum
    }

    fn check_facts(&self, facts: &Facts) -> Result<()> {
        facts.check(true, self.kind != CpoLossKind::Ipo)
    }
}

impl Cpo {
    /// An answer's slopes from that of the contrast and the weight of its cross-entropy.
    fn slopes(&self, contrast: f64, supervised: f64) -> Slopes {
        match self.kind.averages() {
            true => Slopes { sum: 0.0, likelihood: contrast - supervised },
            false => Slopes { sum: contrast, likelihood: -supervised },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(options: CpoOptions, log_probs: &[f32], facts: Facts) -> (f64, Vec<f32>) {
        let mut grouping = Grouping::default();
        grouping.push(0, facts, [0..2, 2..3]);
        let scored = Scored::new(log_probs, &grouping);
        let mut gradients = Vec::new();
        let loss = Cpo::new(options).unwrap().loss(scored, 1.0, &mut gradients, &mut Metrics::default());
        (loss, gradients)
    }

    fn close(found: &[f32], expected: &[f64]) {
        // Gradients are f32 near 1.
        let near = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 1e-7;
        assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(near),
            "{found:?} {expected:?}"
        );
    }

    /// Answers -1 - 2 = -3 and -4, β = 1/2, no smoothing: z = 1/2 and L = log(1 + e^-½) + 3/2; the derivative by
    /// each chosen log-prob is -½ σ(-½) - ½.
    #[test]
    fn hand_worked_sigmoid() {
        let options = CpoOptions { beta: 0.5, ..CpoOptions::default() };
        let (loss, gradients) = evaluate(options, &[-1.0, -2.0, -4.0], Facts::default());
        assert!((loss - ((-0.5f64).exp().ln_1p() + 1.5)).abs() < 1e-15, "{loss}");
        let pull = 0.5 / (1.0 + 0.5f64.exp());
        close(&gradients, &[-pull - 0.5, -pull - 0.5, pull]);
    }

    /// Hinge: 1 - ½ · (-3 + 4) = ½. IPO on means: (-1.5 + 4 - 1)² = 2.25, by the chosen mean 3, so 1.5 a token.
    #[test]
    fn hand_worked_hinge_and_ipo() {
        let options =
            CpoOptions { beta: 0.5, cpo_alpha: 0.0, loss_type: CpoLossKind::Hinge, ..CpoOptions::default() };
        let (loss, gradients) = evaluate(options.clone(), &[-1.0, -2.0, -4.0], Facts::default());
        assert_eq!((loss, gradients.as_slice()), (0.5, [-0.5f32, -0.5, 0.5].as_slice()));
        let options = CpoOptions { loss_type: CpoLossKind::Ipo, ..options };
        let (loss, gradients) = evaluate(options, &[-1.0, -2.0, -4.0], Facts::default());
        assert_eq!((loss, gradients.as_slice()), (2.25, [1.5f32, 1.5, -3.0].as_slice()));
    }

    /// SimPO with means -1.5 and -4, β = 2, γ = 3 and a margin of 1: z = 2 · 2.5 - 3 - 1 = 1; weight ½.
    #[test]
    fn hand_worked_simpo() {
        let options = CpoOptions {
            loss_type: CpoLossKind::Simpo,
            beta: 2.0,
            cpo_alpha: 0.0,
            simpo_gamma: Some(3.0),
            ..CpoOptions::default()
        };
        let facts = Facts { weight: 0.5, margin: 1.0, ..Facts::default() };
        let (loss, gradients) = evaluate(options, &[-1.0, -2.0, -4.0], facts);
        assert!((loss - 0.5 * (-1f64).exp().ln_1p()).abs() < 1e-15, "{loss}");
        let pull = 1.0 / (1.0 + 1f64.exp());
        close(&gradients, &[-pull / 2.0, -pull / 2.0, pull]);
    }

    /// AlphaPO, α = 1, on one chosen token of log ½ mean and one rejected of log ¼: scores 1 - 2 and 1 - 4.
    #[test]
    fn hand_worked_alpha() {
        let options = CpoOptions {
            loss_type: CpoLossKind::Simpo,
            beta: 1.0,
            cpo_alpha: 0.0,
            simpo_gamma: Some(0.0),
            alpha: 1.0,
            ..CpoOptions::default()
        };
        let half = 0.5f32.ln();
        let (loss, gradients) = evaluate(options, &[half, half, 2.0 * half], Facts::default());
        // The inputs are f32, and the rejected score moves by 4 times as much.
        assert!((loss - (-2f64).exp().ln_1p()).abs() < 1e-6, "{loss}");
        let pull = 1.0 / (1.0 + 2f64.exp());
        assert!((f64::from(gradients[2]) - 4.0 * pull).abs() < 1e-6, "{gradients:?}");
    }

    #[test]
    fn options_without_effect_are_refused() {
        let no_effect = |options: CpoOptions, name| match options.check() {
            Err(Error::NoEffect { option, .. }) => assert_eq!(option, name),
            other => panic!("{other:?}"),
        };
        no_effect(CpoOptions { simpo_gamma: Some(0.5), ..CpoOptions::default() }, "simpo_gamma");
        for loss_type in [CpoLossKind::Hinge, CpoLossKind::Ipo] {
            let options = CpoOptions { loss_type, label_smoothing: Some(0.1), ..CpoOptions::default() };
            no_effect(options, "label_smoothing");
        }
        let options = CpoOptions { cpo_alpha: -1.0, ..CpoOptions::default() };
        assert!(matches!(options.check(), Err(Error::OutOfRange { option: "cpo_alpha", .. })));
    }

    #[test]
    fn a_name_is_read_back_and_the_nearest_is_offered() {
        for kind in CpoLossKind::all() {
            assert_eq!(kind.to_string().parse::<CpoLossKind>().unwrap(), kind);
        }
        let error = "simp".parse::<CpoLossKind>().unwrap_err();
        assert!(matches!(error, Error::UnknownName { nearest: "simpo", .. }), "{error}");
    }
}
