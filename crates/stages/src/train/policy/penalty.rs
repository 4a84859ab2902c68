//! How far completions are from what the reference would have written, and what that is logged as.

use collimate_objective::{KlEstimator, Metrics};

use super::Written;

/// An estimate of the divergence from the reference at each token: `[completions][tokens]`.
pub(super) struct Divergence(Vec<Vec<f64>>);

impl Divergence {
    /// Of all completions, whose log-probs under the policy and the reference are known.
    pub fn of(written: &[Written], estimator: KlEstimator) -> Self {
        let completions = written.iter().flat_map(|written| &written.completions);
        Self(
            completions
                .map(|completion| estimator.estimates(&completion.log_probs, &completion.reference))
                .collect(),
        )
    }

    /// Of each completion by itself, token by token.
    pub fn completions(&self) -> impl Iterator<Item = &[f64]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Of each completion as a whole.
    pub fn sums(&self) -> impl Iterator<Item = f64> {
        self.0.iter().map(|tokens| tokens.iter().sum())
    }

    /// The mean over completions.
    pub fn mean(&self) -> f64 {
        self.sums().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// Adds the mean over tokens (`kl`) and over completions (`objective/kl`), TRL's names.
    pub fn observe(&self, metrics: &mut Metrics) {
        let tokens: usize = self.0.iter().map(Vec::len).sum();
        metrics.add("kl", self.sums().sum(), tokens as f64);
        metrics.add("objective/kl", self.mean(), 1.0);
    }
}
