//! The figures of a reward, added up completion by completion.

use serde::{Deserialize, Serialize};

use crate::statistics::{Estimate, NORMAL_95};

/// What a reward was over all completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The reward's name.
    pub name: String,
    /// The mean. Completions of one prompt are not independent, prompts are taken to be: the interval is the normal one
    /// of the ratio of sums over prompts (Cochran 1977, section 6.4).
    pub mean: Estimate,
    /// The standard deviation of single completions, with n - 1; 0 for one alone.
    pub std: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// Sums of values less the first one, which keeps what cancels small.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    origin: Option<f64>,
    min: f64,
    max: f64,
    count: f64,
    sum: f64,
    squares: f64,
    /// The sum of the present prompt, and its number of completions.
    prompt: [f64; 2],
    prompts: f64,
    /// Over all prompts but the present one: Σ sum², Σ sum · number, Σ number².
    products: [f64; 3],
}

impl Tally {
    /// Adds the values of a row, which may go on with the prompt of the row before.
    pub fn add(&mut self, values: &[f64], follows: bool) {
        if !follows {
            self.end_prompt();
        }
        for &value in values {
            if self.origin.is_none() {
                (self.min, self.max) = (value, value);
            }
            let apart = value - *self.origin.get_or_insert(value);
            (self.min, self.max) = (self.min.min(value), self.max.max(value));
            self.count += 1.0;
            self.sum += apart;
            self.squares += apart * apart;
            self.prompt[0] += apart;
            self.prompt[1] += 1.0;
        }
    }

    fn end_prompt(&mut self) {
        let [sum, number] = std::mem::take(&mut self.prompt);
        let products = [sum * sum, sum * number, number * number];
        self.products.iter_mut().zip(products).for_each(|(total, product)| *total += product);
        self.prompts += f64::from(u8::from(number > 0.0));
    }

    /// The figures; there must be a value.
    pub fn figures(mut self, name: String) -> Figures {
        self.end_prompt();
        let (count, prompts, origin) = (self.count, self.prompts, self.origin.unwrap_or_default());
        let mean = self.sum / count;
        let [squares, cross, sizes] = self.products;
        // Σ (sum - mean · number)², which rounding may leave below 0.
        let residuals = (squares - 2.0 * mean * cross + mean * mean * sizes).max(0.0);
        let half = NORMAL_95 * (prompts / (prompts - 1.0) * residuals).sqrt() / count;
        let centre = origin + mean;
        let variance = (self.squares - count * mean * mean).max(0.0) / (count - 1.0).max(1.0);
        Figures {
            name,
            mean: Estimate {
                value: centre,
                interval: (prompts > 1.0).then_some([centre - half, centre + half]),
            },
            std: variance.sqrt(),
            min: self.min,
            max: self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: &[(&[f64], bool)]) -> Figures {
        let mut tally = Tally::default();
        rows.iter().for_each(|(values, follows)| tally.add(values, *follows));
        tally.figures("a".to_owned())
    }

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9
    }

    /// 1, 2 and 6, each of its own prompt: mean 3, variance (4 + 1 + 9) / 2 = 7.
    #[test]
    fn of_single_completions_it_is_the_interval_of_a_mean() {
        // Far from 0, where sums of squares would cancel.
        for origin in [0.0, 1e8] {
            let found =
                figures(&[(&[origin + 1.0], false), (&[origin + 2.0], false), (&[origin + 6.0], false)]);
            let expected = Estimate::mean([1.0, 2.0, 6.0].into_iter());
            assert!(close(found.mean.value - origin, 3.0) && close(found.std, 7f64.sqrt()), "{found:?}");
            let ends = found.mean.interval.unwrap().into_iter().zip(expected.interval.unwrap());
            assert!(
                ends.into_iter().all(|(end, expected)| (end - origin - expected).abs() < 1e-6),
                "{found:?}"
            );
            assert_eq!((found.min, found.max), (origin + 1.0, origin + 6.0));
        }
    }

    /// Sums 2 of 2 and 3 of 1: R = 5 / 3, residuals 2 - 10/3 = -4/3 and 4/3; √(2 · 32/9) / 3 = 8/9.
    #[test]
    fn completions_of_one_prompt_count_together() {
        let found = figures(&[(&[0.0], false), (&[2.0], true), (&[3.0], false)]);
        let [low, high] = found.mean.interval.unwrap();
        let half = 1.96 * 8.0 / 9.0;
        assert!(close(low, 5.0 / 3.0 - half) && close(high, 5.0 / 3.0 + half), "{found:?}");
        assert_eq!(found, figures(&[(&[0.0, 2.0], false), (&[3.0], false)]));
    }

    #[test]
    fn one_prompt_tells_nothing_of_others() {
        let found = figures(&[(&[-1.0, -3.0], false)]);
        assert_eq!(found.mean, Estimate { value: -2.0, interval: None });
        assert_eq!((found.std, found.min, found.max), (2f64.sqrt(), -3.0, -1.0));
        assert_eq!(figures(&[(&[4.0], false)]).std, 0.0);
    }
}
