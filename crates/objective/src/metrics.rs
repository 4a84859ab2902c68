//! Named means and extremes, gathered over micro-batches and steps.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What becomes of the parts of a metric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gathering {
    /// Their mean.
    #[default]
    Mean,
    /// The least of them.
    Least,
    /// The greatest of them.
    Greatest,
}

/// One named figure in the making.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name as it is logged, such as `rewards/chosen`.
    pub name: Cow<'static, str>,
    /// Sum of what was added; the extreme itself for one.
    pub sum: f64,
    /// What the sum is divided by: 1 for an extreme, 0 where nothing was added.
    pub weight: f64,
    /// What becomes of its parts.
    #[serde(default)]
    pub gathering: Gathering,
}

impl Metric {
    fn take(&mut self, part: &Self) {
        match self.gathering {
            Gathering::Mean => {
                self.sum += part.sum;
                self.weight += part.weight;
            }
            _ if part.weight == 0.0 => {}
            _ if self.weight == 0.0 => (self.sum, self.weight) = (part.sum, part.weight),
            Gathering::Least => self.sum = self.sum.min(part.sum),
            Gathering::Greatest => self.sum = self.sum.max(part.sum),
        }
    }
}

/// Means and extremes by name, in the order in which they first came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics(Vec<Metric>);

impl Metrics {
    /// Adds `sum` over `weight` parts (tokens, pairs) to the mean of this name.
    pub fn add(&mut self, name: impl Into<Cow<'static, str>>, sum: f64, weight: f64) {
        self.add_part(name, sum, weight, Gathering::Mean);
    }

    /// Takes `value` for this name if it is the least so far.
    pub fn least(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.add_part(name, value, 1.0, Gathering::Least);
    }

    /// Takes `value` for this name if it is the greatest so far.
    pub fn greatest(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.add_part(name, value, 1.0, Gathering::Greatest);
    }

    /// Adds all parts of `other`.
    pub fn absorb(&mut self, other: &Self) {
        for metric in &other.0 {
            self.take(metric.clone());
        }
    }

    fn add_part(&mut self, name: impl Into<Cow<'static, str>>, sum: f64, weight: f64, gathering: Gathering) {
        self.take(Metric { name: name.into(), sum, weight, gathering });
    }

    fn take(&mut self, part: Metric) {
        match self.0.iter_mut().find(|metric| metric.name == part.name) {
            Some(metric) => metric.take(&part),
            None => self.0.push(part),
        }
    }

    /// Starts all anew, keeping their names and memory.
    pub fn reset(&mut self) {
        for metric in &mut self.0 {
            (metric.sum, metric.weight) = (0.0, 0.0);
        }
    }

    /// The means and extremes of all names that got a part since the last reset.
    pub fn means(&self) -> impl Iterator<Item = (&str, f64)> {
        let counted = self.0.iter().filter(|metric| metric.weight > 0.0);
        counted.map(|metric| (metric.name.as_ref(), metric.sum / metric.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_weighs_its_parts() {
        let mut metrics = Metrics::default();
        metrics.add("accuracy", 3.0, 4.0);
        metrics.add("entropy", 1.0, 1.0);
        metrics.add("accuracy", 0.0, 2.0);
        assert_eq!(metrics.means().collect::<Vec<_>>(), [("accuracy", 0.5), ("entropy", 1.0)]);
        let mut whole = metrics.clone();
        whole.absorb(&metrics);
        assert_eq!(
            whole.0[0],
            Metric { name: "accuracy".into(), sum: 6.0, weight: 12.0, gathering: Gathering::Mean }
        );
        metrics.reset();
        assert_eq!(metrics.means().count(), 0);
    }

    #[test]
    fn an_extreme_outlives_what_is_within_it_and_no_reset() {
        let mut metrics = Metrics::default();
        for value in [3.0, 2.0, 5.0] {
            metrics.least("least", value);
            metrics.greatest("greatest", value);
        }
        let mut whole = metrics.clone();
        metrics.reset();
        assert_eq!(metrics.means().count(), 0);
        whole.absorb(&metrics);
        assert_eq!(whole.means().collect::<Vec<_>>(), [("least", 2.0), ("greatest", 5.0)]);
        metrics.least("least", 4.0);
        metrics.greatest("greatest", -4.0);
        assert_eq!(metrics.means().collect::<Vec<_>>(), [("least", 4.0), ("greatest", -4.0)]);
        whole.absorb(&metrics);
        assert_eq!(whole.means().collect::<Vec<_>>(), [("least", 2.0), ("greatest", 5.0)]);
    }
}
