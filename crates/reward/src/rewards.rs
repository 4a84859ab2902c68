//! Rewards with their weights, added up.

use collimate_run::Context;
use serde::{Deserialize, Serialize};

use crate::{Error, Item, Result, Reward};

/// A list of rewards with their weights.
pub struct Rewards {
    rewards: Vec<Box<dyn Reward>>,
    names: Vec<String>,
    weights: Vec<f64>,
}

/// What a batch of completions is worth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Marks {
    /// The weighted sums: `[items]`.
    pub total: Vec<f64>,
    /// Each reward by itself, without its weight: `[rewards][items]`.
    pub parts: Vec<Vec<f64>>,
}

impl Rewards {
    /// The rewards with one weight for each; without weights, each counts once.
    ///
    /// # Errors
    /// [`Error::Weights`] where their numbers differ, [`Error::Weight`] for one that is not finite.
    pub fn new(rewards: Vec<Box<dyn Reward>>, weights: &[f64]) -> Result<Self> {
        let weights = if weights.is_empty() { vec![1.0; rewards.len()] } else { weights.to_vec() };
        if weights.len() != rewards.len() {
            return Err(Error::Weights { rewards: rewards.len(), weights: weights.len() });
        }
        let names = distinct(rewards.iter().map(|reward| reward.name()));
        if let Some((reward, &weight)) = names.iter().zip(&weights).find(|(_, weight)| !weight.is_finite()) {
            return Err(Error::Weight { reward: reward.clone(), weight });
        }
        Ok(Self { rewards, names, weights })
    }

    /// The names of the rewards, in their order; of equal ones, all but the first have a number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What these completions are worth. Those of one prompt are neighbours with an equal `row`.
    ///
    /// # Errors
    /// A reward that cannot be given or is not finite, with its row; an interruption.
    pub fn score(&mut self, items: &[Item<'_>], context: &Context) -> Result<Marks> {
        let mut marks = Marks { total: vec![0.0; items.len()], parts: Vec::new() };
        for ((reward, name), weight) in self.rewards.iter_mut().zip(&self.names).zip(&self.weights) {
            context.check()?;
            let part = reward.score(items, context)?;
            for ((total, value), item) in marks.total.iter_mut().zip(&part).zip(items) {
                *total += weight * value;
                if !total.is_finite() {
                    // Of one that is finite the weight makes it too large.
                    let value = if value.is_finite() { *total } else { *value };
                    return Err(Error::NotFinite { reward: name.clone(), row: item.row, value });
                }
            }
            marks.parts.push(part);
        }
        Ok(marks)
    }
}

/// The names, where those that stood before have `_2`, `_3` … behind them.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use collimate_run::{RunOptions, Silent};
    use serde_json::{Map, Value};

    use super::*;

    /// Gives the same to all.
    struct Constant(&'static str, f64);

    impl Reward for Constant {
        fn name(&self) -> &str {
            self.0
        }

        fn score(&mut self, items: &[Item<'_>], _context: &Context) -> Result<Vec<f64>> {
            Ok(vec![self.1; items.len()])
        }
    }

    fn rewards(list: &[(&'static str, f64)], weights: &[f64]) -> Result<Rewards> {
        let boxed = list.iter().map(|(name, value)| Box::new(Constant(name, *value)) as Box<dyn Reward>);
        Rewards::new(boxed.collect(), weights)
    }

    fn score(list: &[(&'static str, f64)], weights: &[f64]) -> Result<Marks> {
        let calm = AtomicBool::new(false);
        let options = RunOptions::new(&Silent, &calm);
        let (prompt, fields) = (Value::Null, Map::new());
        let item = Item { row: 7, prompt: &prompt, completion: "", fields: &fields };
        rewards(list, weights)?.score(&[item, item], &Context::new(Path::new("."), &options, false))
    }

    #[test]
    fn the_total_is_the_weighted_sum() {
        let found = score(&[("a", 2.0), ("b", 3.0)], &[0.5, -1.0]).unwrap();
        assert_eq!(found, Marks { total: vec![-2.0; 2], parts: vec![vec![2.0; 2], vec![3.0; 2]] });
        assert_eq!(score(&[("a", 2.0), ("b", 3.0)], &[]).unwrap().total, [5.0; 2]);
    }

    #[test]
    fn equal_names_are_told_apart() {
        let list = [("regex", 0.0), ("regex_2", 0.0), ("regex", 0.0), ("regex", 0.0)];
        assert_eq!(rewards(&list, &[]).unwrap().names(), ["regex", "regex_2", "regex_3", "regex_4"]);
    }

    #[test]
    fn what_is_not_finite_is_an_error_with_its_row_even_at_weight_zero() {
        for (value, weight) in [(f64::NAN, 0.0), (f64::INFINITY, 1.0), (1e308, 1e308)] {
            let failed = score(&[("a", 1.0), ("b", value)], &[1.0, weight]);
            let Err(Error::NotFinite { reward, row: 7, value }) = failed else { panic!("{failed:?}") };
            assert!(reward == "b" && !value.is_finite(), "{value}");
        }
    }

    #[test]
    fn weights_are_one_for_each_reward() {
        assert!(matches!(score(&[("a", 1.0)], &[1.0, 2.0]), Err(Error::Weights { rewards: 1, weights: 2 })));
        for weight in [f64::NAN, f64::INFINITY] {
            let failed = score(&[("a", 1.0), ("b", 0.5)], &[1.0, weight]);
            assert!(matches!(&failed, Err(Error::Weight { reward, .. }) if reward == "b"), "{failed:?}");
        }
    }
}
