//! How far completions are from what the reference would have written, and what that is logged as.

use collimate_objective::{KlEstimator, Metrics};

use super::Written;

/// An estimate of the divergence from the reference at each token: `[completions][tokens]`.
pub(super) struct Divergence(Vec<Vec<f64>>);

impl Divergence {
    /// Of all completions, whose log-probs under the policy and the reference are known; nothing of masked ones.
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

    /// The mean over completions, those left out that are masked.
    pub fn mean(&self) -> f64 {
        let known = self.0.iter().filter(|tokens| !tokens.is_empty()).count();
        self.sums().sum::<f64>() / known.max(1) as f64
    }

    /// Adds the mean over tokens (`kl`) and over completions (`objective/kl`), TRL's names.
    pub fn observe(&self, metrics: &mut Metrics) {
        let tokens: usize = self.0.iter().map(Vec::len).sum();
        metrics.add("kl", self.sums().sum(), tokens as f64);
        metrics.add("objective/kl", self.mean(), 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Completion;
    use super::*;

    #[test]
    fn masked_completions_have_no_divergence_and_do_not_count() {
        let learnt =
            Completion { log_probs: vec![-0.5, -1.0], reference: vec![-1.0; 2], ..Completion::default() };
        let masked = Completion { tokens: vec![1; 3], masked: true, ..Completion::default() };
        let written = Written { completions: vec![learnt, masked], ..Written::default() };
        let divergence = Divergence::of(&[written], KlEstimator::K1);
        assert_eq!((divergence.sums().collect::<Vec<_>>(), divergence.mean()), (vec![0.5, 0.0], 0.5));
    }
}
