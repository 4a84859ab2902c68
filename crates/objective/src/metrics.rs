//! Named means, gathered over micro-batches and steps.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One named mean in the making.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name as it is logged, such as `rewards/chosen`.
    pub name: Cow<'static, str>,
    /// Sum of what was added.
    pub sum: f64,
    /// What the sum is divided by.
    pub weight: f64,
}

/// Means by name, in the order in which they first came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics(Vec<Metric>);

impl Metrics {
    /// Adds `sum` over `weight` parts (tokens, pairs) to the mean of this name.
    pub fn add(&mut self, name: impl Into<Cow<'static, str>>, sum: f64, weight: f64) {
        self.add_part(Metric { name: name.into(), sum, weight });
    }

    /// Adds all parts of `other`.
    pub fn absorb(&mut self, other: &Self) {
        for metric in &other.0 {
            self.add_part(metric.clone());
        }
    }

    fn add_part(&mut self, part: Metric) {
        match self.0.iter_mut().find(|metric| metric.name == part.name) {
            Some(metric) => {
                metric.sum += part.sum;
                metric.weight += part.weight;
            }
            None => self.0.push(part),
        }
    }

    /// Starts all means anew, keeping their names and memory.
    pub fn reset(&mut self) {
        for metric in &mut self.0 {
            (metric.sum, metric.weight) = (0.0, 0.0);
        }
    }

    /// The means of all names that got a part since the last reset.
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
        assert_eq!(whole.0[0], Metric { name: "accuracy".into(), sum: 6.0, weight: 12.0 });
        metrics.reset();
        assert_eq!(metrics.means().count(), 0);
    }
}
