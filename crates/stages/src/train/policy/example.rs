//! A prompt with the completions that the model wrote to it: what is learnt from, as one prefix tree.

use collimate_generate::FinishReason;
use collimate_objective::mean;
use collimate_train::{MicroBatch, TrainingExample};
use serde::{Deserialize, Serialize};

use super::PolicyMethod;
use super::group::Group;

/// A prompt with its completions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The prompt's row in its file.
    pub row: u64,
    /// What is asked, in tokens.
    pub prompt: Vec<u32>,
    /// What was written.
    pub completions: Vec<Completion>,
    /// What logits were divided by when it was written.
    pub temperature: f32,
    /// Whether the value before each token is wanted.
    pub valued: bool,
}

/// A completion, and what is remembered of each of its tokens; what is not wanted is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<u32>,
    /// Whether nothing is learnt from it, though it counts.
    pub masked: bool,
    /// Log-probs under the policy that wrote it.
    #[serde(with = "bits")]
    pub log_probs: Vec<f32>,
    /// Log-probs under the reference model.
    #[serde(with = "bits")]
    pub reference: Vec<f32>,
    /// By how much each token is better than what was to be expected.
    #[serde(with = "bits")]
    pub advantages: Vec<f32>,
    /// What was expected to come, before each token.
    #[serde(with = "bits")]
    pub values: Vec<f32>,
    /// What came.
    #[serde(with = "bits")]
    pub returns: Vec<f32>,
}

impl Completion {
    /// Its tokens that are learnt from.
    fn learnt(&self) -> usize {
        if self.masked { 0 } else { self.tokens.len() }
    }

    /// The mean of its advantages, where it has any.
    pub(super) fn advantage(&self) -> Option<f64> {
        let advantages: Vec<f64> = self.advantages.iter().map(|&advantage| advantage.into()).collect();
        (!advantages.is_empty()).then(|| mean(&advantages))
    }
}

impl Written {
    /// What was written to a prompt and is to be learnt from by a method, with nothing known of it yet.
    pub(super) fn new(method: &impl PolicyMethod, group: &Group, temperature: f64) -> Self {
        let completion = |number: usize| {
            let sample = &group.samples[number];
            let masked = method.masks_cut() && sample.finish_reason == FinishReason::Length;
            Completion { tokens: sample.tokens.clone(), masked, ..Completion::default() }
        };
        Self {
            row: group.row,
            prompt: group.tokens.clone(),
            completions: method.choose(group).into_iter().map(completion).collect(),
            temperature: temperature as f32,
            valued: method.values(),
        }
    }

    /// Gives every token of each completion the next of these advantages.
    pub(super) fn give(&mut self, advantages: &mut impl Iterator<Item = f64>) {
        for (completion, advantage) in self.completions.iter_mut().zip(advantages) {
            completion.advantages = vec![advantage as f32; completion.tokens.len()];
        }
    }

    /// The reference's log-probs of all targets.
    pub fn reference(&self) -> Vec<f32> {
        let learnt = self.completions.iter().filter(|completion| !completion.masked);
        learnt.flat_map(|completion| &completion.reference).copied().collect()
    }
}

impl TrainingExample for Written {
    fn tokens(&self) -> usize {
        self.prompt.len() + self.targets()
    }

    fn targets(&self) -> usize {
        self.completions.iter().map(Completion::learnt).sum()
    }

    fn row(&self) -> u64 {
        self.row
    }

    fn push(&self, number: usize, part: &mut MicroBatch) {
        let MicroBatch { batch, grouping, experience } = part;
        let branches = self
            .completions
            .iter()
            .map(|completion| (&completion.tokens[..completion.learnt()], self.prompt.len()));
        let (first, mut sequences) = (batch.targets.len(), Vec::with_capacity(self.completions.len()));
        batch.temperature = self.temperature;
        batch.push_tree(&self.prompt, branches, &mut sequences);
        if self.valued {
            batch.readouts.extend(batch.targets[first..].iter().map(|target| target.row));
        }
        for completion in self.completions.iter().filter(|completion| !completion.masked) {
            experience.log_probs.extend_from_slice(&completion.log_probs);
            experience.advantages.extend_from_slice(&completion.advantages);
            experience.values.extend_from_slice(&completion.values);
            experience.returns.extend_from_slice(&completion.returns);
        }
        grouping.push(number, self.facts(), sequences);
    }
}

/// Floats by their bits, so that what is read is what was written.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| value.to_bits()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let bits = Vec::<u32>::deserialize(deserializer)?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Written {
        let completion = |tokens: &[u32], masked| Completion {
            tokens: tokens.to_vec(),
            masked,
            advantages: vec![0.1; tokens.len()],
            ..Completion::default()
        };
        let completions =
            vec![completion(&[7, 8], false), completion(&[5, 5, 5], true), completion(&[9], false)];
        let prompt = vec![1, 2, 3];
        Written { row: 4, prompt, completions, temperature: 0.5, valued: true }
    }

    #[test]
    fn completions_share_their_prompt_and_masked_ones_have_no_targets() {
        let mut part = MicroBatch::default();
        written().push(0, &mut part);
        assert_eq!(part.batch.tokens, [1, 2, 3, 7, 8, 9]);
        assert_eq!(part.grouping.sequences, [0..2, 2..2, 2..3]);
        // The value before a token stands where the token is predicted.
        assert_eq!(part.batch.readouts, [2, 3, 2]);
        assert_eq!(part.experience.advantages, [0.1; 3]);
        assert_eq!((written().tokens(), written().targets(), part.batch.temperature), (6, 3, 0.5));
    }

    #[test]
    fn what_is_saved_comes_back_to_the_bit() {
        let mut example = written();
        example.completions[0].log_probs = vec![-0.1, f32::MIN_POSITIVE, -1.0 / 3.0];
        let text = serde_json::to_string(&example).unwrap();
        assert_eq!(serde_json::from_str::<Written>(&text).unwrap(), example);
    }
}
