//! What was remembered of each target when the model wrote it.

/// Figures of every target of completions that the model wrote itself: each `[targets]`, or empty where the objective
/// wants none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Experience {
    /// Log-probs under the policy that wrote the completion. Empty while that is the policy in training: the ratio of
    /// the two is then 1, though its gradient is not 0.
    pub log_probs: Vec<f32>,
    /// By how much the token is better than what was to be expected.
    pub advantages: Vec<f32>,
    /// What the value model expected to come, before the token.
    pub values: Vec<f32>,
    /// What came, discounted: what the value model is to learn.
    pub returns: Vec<f32>,
}

/// Nothing remembered.
pub(crate) static NONE: Experience =
    Experience { log_probs: Vec::new(), advantages: Vec::new(), values: Vec::new(), returns: Vec::new() };

impl Experience {
    /// Empties all, and keeps the memory.
    pub fn clear(&mut self) {
        self.each().into_iter().for_each(Vec::clear);
    }

    /// Appends all of `other`, whose targets follow.
    pub fn append(&mut self, other: &Self) {
        let others = [&other.log_probs, &other.advantages, &other.values, &other.returns];
        self.each().into_iter().zip(others).for_each(|(own, other)| own.extend_from_slice(other));
    }

    fn each(&mut self) -> [&mut Vec<f32>; 4] {
        [&mut self.log_probs, &mut self.advantages, &mut self.values, &mut self.returns]
    }
}
