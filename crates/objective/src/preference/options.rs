//! What a person can choose among preference losses, and which choices go together.

use super::Term;
use crate::error::{Error, Result, in_range, positive};
use crate::losses::{Form, Heeded, PairLoss, SFT, Settings};
use crate::{FDivergence, PairLossKind};

/// The alpha divergence's coefficient where none is given.
const ALPHA: f64 = 0.5;
/// DiscoPOP's τ where none is given, the paper's.
const TAU: f64 = 0.05;

/// The options of [`Preference`](super::Preference), under TRL's names and with its defaults. `None` is "not given".
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceOptions {
    /// The losses whose weighted sum is taken.
    pub loss_type: Vec<PairLossKind>,
    /// Their weights, each above 0; 1 each where not given.
    pub loss_weights: Option<Vec<f64>>,
    /// How strongly the policy is bound to its reference, above 0; IPO's τ, SPPO's 1/η.
    pub beta: f64,
    /// How likely a preference is the wrong way round, from 0 to below 0.5, to all losses that know of it; 0 where not
    /// given.
    pub label_smoothing: Option<f64>,
    /// The divergence that binds the policy; reverse KL where not given.
    pub f_divergence_type: Option<FDivergence>,
    /// The coefficient of the alpha divergence, between 0 and 1; 0.5 where not given.
    pub f_alpha_divergence_coef: Option<f64>,
    /// DiscoPOP's τ, above 0; 0.05 where not given.
    pub discopop_tau: Option<f64>,
    /// Whether pairs are weighted by how likely they are to the policy (WPO).
    pub use_weighting: bool,
    /// What an answer's tokens beyond the length of the other one count, from 0 to 1 (LD-DPO).
    pub ld_alpha: Option<f64>,
    /// The weight of the chosen answer's cross-entropy, above 0 (RPO); the same as `sft` among the losses.
    pub rpo_alpha: Option<f64>,
    /// Whether the reference is taken to hold all answers for equally likely; no model is needed for it.
    pub reference_free: bool,
}

impl Default for PreferenceOptions {
    fn default() -> Self {
        Self {
            loss_type: vec![PairLossKind::default()],
            loss_weights: None,
            beta: 0.1,
            label_smoothing: None,
            f_divergence_type: None,
            f_alpha_divergence_coef: None,
            discopop_tau: None,
            use_weighting: false,
            ld_alpha: None,
            rpo_alpha: None,
            reference_free: false,
        }
    }
}

impl PreferenceOptions {
    /// Checks every option by itself and against the others.
    ///
    /// Errors: a number outside its range, an option without effect, losses and options that do not go together.
    pub fn check(&self) -> Result<()> {
        positive("beta", self.beta)?;
        self.check_losses()?;
        self.check_smoothing()?;
        self.check_reward()?;
        if let Some(tau) = self.discopop_tau {
            positive("discopop_tau", tau)?;
            self.effective("discopop_tau", Heeded::Temperature)?;
        }
        if let Some(alpha) = self.ld_alpha {
            in_range((0.0..=1.0).contains(&alpha), "ld_alpha", alpha, "from 0 to 1")?;
            self.preferring("ld_alpha")?;
        }
        if self.use_weighting {
            self.preferring("use_weighting")?;
            self.all(
                Heeded::Weight,
                "use_weighting",
                "it sets answers of different pairs against each other, so that no weight is theirs",
            )?;
        }
        Ok(())
    }

    fn check_losses(&self) -> Result<()> {
        let names: Vec<_> = self.loss_type.iter().map(|kind| kind.name()).collect();
        if names.is_empty() {
            return Err(Error::NoLoss);
        }
        if let Some(at) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
            return Err(Error::Repeated { loss: names[at] });
        }
        if let Some(weights) = &self.loss_weights {
            if weights.len() != names.len() {
                return Err(Error::WeightCount { losses: names.len(), weights: weights.len() });
            }
            weights.iter().try_for_each(|&weight| positive("loss_weights", weight))?;
        }
        if let Some(alpha) = self.rpo_alpha {
            positive("rpo_alpha", alpha)?;
            if names.contains(&SFT.name) {
                return Err(Error::TwoSupervisedTerms);
            }
        }
        Ok(())
    }

    fn check_smoothing(&self) -> Result<()> {
        if let Some(smoothing) = self.label_smoothing {
            let within = (0.0..0.5).contains(&smoothing);
            in_range(within, "label_smoothing", smoothing, "from 0 to below 0.5")?;
            self.effective("label_smoothing", Heeded::LabelSmoothing)?;
        }
        let missing = |loss, advice| Err(Error::Missing { loss, option: "label_smoothing", advice });
        for loss in self.losses() {
            match (loss.name, self.label_smoothing) {
                ("robust", None) => {
                    return missing(
                        loss.name,
                        "give the share of preferences that are the wrong way round, such as 0.1",
                    );
                }
                ("exo_pair", None | Some(0.0)) => {
                    return missing(loss.name, "give a value above 0; the paper recommends 0.001");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What makes a reward of a log-prob: the divergence and the reference.
    fn check_reward(&self) -> Result<()> {
        let divergence = self.f_divergence_type.unwrap_or_default();
        if let Some(alpha) = self.f_alpha_divergence_coef {
            let within = 0.0 < alpha && alpha < 1.0;
            in_range(
                within,
                "f_alpha_divergence_coef",
                alpha,
                "between 0, which would be reverse_kl, and 1, which would be forward_kl",
            )?;
            if divergence != FDivergence::AlphaDivergence {
                let heeded_by = FDivergence::AlphaDivergence.to_string();
                return Err(Error::NoEffect { option: "f_alpha_divergence_coef", heeded_by });
            }
        }
        if divergence != FDivergence::ReverseKl {
            self.preferring("f_divergence_type")?;
            self.all(
                Heeded::DifferenceOnly,
                "f_divergence_type",
                "its rewards are known but for a constant, which cancels in the difference of two rewards alone",
            )?;
        }
        if self.reference_free {
            self.preferring("reference_free")?;
            self.all(
                Heeded::DifferenceOnly,
                "reference_free",
                "it measures each answer against the reference, not only one against the other",
            )?;
        }
        Ok(())
    }

    fn losses(&self) -> impl Iterator<Item = &'static PairLoss> {
        self.loss_type.iter().map(|kind| kind.0)
    }

    /// The losses that set chosen against rejected.
    fn preferences(&self) -> impl Iterator<Item = &'static PairLoss> {
        self.losses().filter(|loss| !matches!(loss.form, Form::Likelihood))
    }

    /// Whether some loss heeds what `option` sets.
    fn effective(&self, option: &'static str, what: Heeded) -> Result<()> {
        if self.losses().any(|loss| loss.heeds(what)) {
            return Ok(());
        }
        Err(Error::NoEffect { option, heeded_by: PairLoss::heeding(what) })
    }

    /// Whether there is a loss besides the supervised term, which ignores `option`.
    fn preferring(&self, option: &'static str) -> Result<()> {
        if self.preferences().next().is_some() {
            return Ok(());
        }
        Err(Error::NoEffect {
            option,
            heeded_by: "losses that set the chosen answer against the rejected".to_owned(),
        })
    }

    /// Whether all losses on preferences go together with `option`.
    fn all(&self, what: Heeded, option: &'static str, reason: &'static str) -> Result<()> {
        match self.preferences().find(|loss| !loss.heeds(what)) {
            None => Ok(()),
            Some(loss) => {
                Err(Error::Excluded { loss: loss.name, option, reason, instead: PairLoss::heeding(what) })
            }
        }
    }

    /// The losses with their weights; RPO's term last.
    pub(super) fn terms(&self) -> Vec<Term> {
        let weight = |at: usize| self.loss_weights.as_ref().map_or(1.0, |weights| weights[at]);
        let mut terms: Vec<_> =
            self.losses().enumerate().map(|(at, loss)| Term { loss, weight: weight(at) }).collect();
        terms.extend(self.rpo_alpha.map(|weight| Term { loss: &SFT, weight }));
        terms
    }

    /// The numbers that losses share; nothing is carried yet.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            beta: self.beta,
            label_smoothing: self.label_smoothing.unwrap_or_default(),
            discopop_tau: self.discopop_tau.unwrap_or(TAU),
            shift: 0.0,
        }
    }

    /// The alpha divergence's coefficient.
    pub(super) fn alpha(&self) -> f64 {
        self.f_alpha_divergence_coef.unwrap_or(ALPHA)
    }
}
