//! Looks out for reward hacking: a reward that rises in training while that of held-out prompts falls.

use super::Watch;
use super::series::value;
use crate::Record;
use std::collections::VecDeque;

/// Evaluations that are looked at together.
const EVALUATIONS: usize = 5;

/// Of the 10 pairs among 5 evaluations, those that must stand in order. Chance brings 9 or more into one order in
/// 5 of 120 cases (Mann 1945, the test for trend by Kendall's tau), and both rewards into theirs in 1 of 576.
const IN_ORDER: usize = 9;

/// Speaks when `eval_reward` has been falling while `reward` has been rising.
#[derive(Debug, Default)]
pub(super) struct HackingWatch {
    /// Sum and number of the rewards since the last evaluation.
    rewards: (f64, u32),
    /// The last evaluations: the mean reward in training before each, and its own.
    evaluations: VecDeque<(f64, f64)>,
}

impl HackingWatch {
    fn note_evaluation(&mut self, held_out: f64) {
        let (sum, records) = std::mem::take(&mut self.rewards);
        // The evaluation before the first step has nothing to be held against.
        if records > 0 {
            self.evaluations.truncate(EVALUATIONS - 1);
            self.evaluations.push_front((sum / f64::from(records), held_out));
        }
    }
}

impl Watch for HackingWatch {
    fn look(&mut self, record: &Record) -> Option<String> {
        if let Some(reward) = value(record, "reward") {
            self.rewards = (self.rewards.0 + reward, self.rewards.1 + 1);
        }
        self.note_evaluation(value(record, "eval_reward")?);
        // The latest comes first.
        let rising = falling(self.evaluations.iter().map(|evaluation| evaluation.0));
        let sinking = falling(self.evaluations.iter().rev().map(|evaluation| evaluation.1));
        (rising >= IN_ORDER && sinking >= IN_ORDER).then(|| {
            format!(
                "eval_reward has been falling over the last {EVALUATIONS} evaluations while reward has been rising: \
                 the policy has found what is rewarded without being meant, or learns its prompts by heart. Read \
                 the latest of completions.jsonl and keep a checkpoint from before; a larger beta, a reward that \
                 sees what is wrong, or more prompts helps"
            )
        })
    }
}

/// Of all pairs of values, those whose second is the smaller.
fn falling(values: impl Iterator<Item = f64> + Clone) -> usize {
    let after =
        |(place, first): (usize, f64)| values.clone().skip(place + 1).filter(move |value| *value < first);
    values.clone().enumerate().flat_map(after).count()
}

#[cfg(test)]
mod tests {
    use super::super::tests::seen;
    use super::*;
    use serde_json::json;

    /// Two records of training, then an evaluation, for each pair of rewards; at first an evaluation alone.
    fn history(rewards: &[(f64, f64)]) -> Vec<Record> {
        let record = |step: usize, name: &str, value: f64| {
            Record::from_iter([("step".to_owned(), json!(step)), (name.to_owned(), json!(value))])
        };
        let round = |(number, &(reward, held_out)): (usize, &(f64, f64))| {
            let step = 10 * (number + 1);
            let training = [(step - 5, reward - 0.1), (step, reward + 0.1)];
            training.map(|(step, reward)| record(step, "reward", reward)).into_iter().chain([record(
                step,
                "eval_reward",
                held_out,
            )])
        };
        let first = record(0, "eval_reward", 9.0);
        [first].into_iter().chain(rewards.iter().enumerate().flat_map(round)).collect()
    }

    fn found(rewards: &[(f64, f64)]) -> Option<u64> {
        seen(&mut HackingWatch::default(), &history(rewards)).map(|(step, _)| step)
    }

    #[test]
    fn a_held_out_reward_that_falls_while_the_other_rises_is_seen() {
        let learning = [(0.1, 0.2), (0.2, 0.4), (0.4, 0.6)];
        let hacking = [(0.5, 0.6), (0.6, 0.5), (0.55, 0.4), (0.8, 0.3), (0.9, 0.2)];
        assert_eq!(found(&[&learning[..], &hacking].concat()), Some(70));
    }

    #[test]
    fn both_rising_or_both_falling_is_something_else() {
        let rising: Vec<(f64, f64)> = (0..12).map(f64::from).map(|step| (step, step - 3.0)).collect();
        assert_eq!(found(&rising), None);
        let falling: Vec<(f64, f64)> = rising.iter().rev().copied().collect();
        assert_eq!(found(&falling), None);
    }

    #[test]
    fn noise_is_no_trend() {
        // Two pairs out of order; equal values are in none.
        assert_eq!(found(&[(1.0, 0.6), (2.0, 0.4), (3.0, 0.5), (4.0, 0.2), (5.0, 0.3)]), None);
        assert_eq!(found(&[(1.0, 0.5), (2.0, 0.5), (3.0, 0.5), (4.0, 0.3), (5.0, 0.2)]), None);
        let constant: Vec<(f64, f64)> = (0..12).map(|step| (1.0, -f64::from(step))).collect();
        assert_eq!(found(&constant), None);
    }
}
