//! Figures with what is known of their exactness.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

/// Standard errors on either side of a mean that hold 95 % of a normal distribution.
pub const NORMAL_95: f64 = 1.96;

/// A figure with the interval that holds the true one for 95 of 100 samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure on this sample.
    pub value: f64,
    /// Lower and upper end; nothing where the sample does not tell.
    pub interval: Option<[f64; 2]>,
}

impl Estimate {
    /// The share of `total` that `count` is, with Wilson's interval (Wilson 1927): the shares p from which this one is
    /// no more than 1.96 of p's standard errors √(p (1 - p) / n) away.
    pub fn share(count: u64, total: u64) -> Self {
        if total == 0 {
            return Self { value: 0.0, interval: None };
        }
        let share = count as f64 / total as f64;
        Self { value: share, interval: Some(wilson(share, total as f64)) }
    }

    /// The share of all cases that are hits, `(hits, cases)` a cluster, where the cases of one cluster are not
    /// independent: Wilson's interval for as many independent cases as have the variance of the ratio of the sums
    /// (Cochran 1977, section 6.3): at most as many as there are cases, and at least as many as there are where
    /// all cases of a cluster are alike: the square of their number over the sum of the squares of the clusters' sizes,
    /// which is the number of clusters where these are equal.
    pub fn clustered(clusters: impl Iterator<Item = (u64, u64)> + Clone) -> Self {
        let clusters = clusters.filter(|(_, cases)| *cases > 0);
        let add = |(hits, cases): (u64, u64), (more, all): (u64, u64)| (hits + more, cases + all);
        let (hits, cases) = clusters.clone().fold((0, 0), add);
        if cases == 0 {
            return Self { value: 0.0, interval: None };
        }
        let (count, share) = (clusters.clone().count() as f64, hits as f64 / cases as f64);
        let sizes: f64 = clusters.clone().map(|(_, cases)| (cases as f64).powi(2)).sum();
        let fewest = ((cases as f64).powi(2) / sizes).min(cases as f64);
        let squares: f64 = clusters.map(|(hits, cases)| (hits as f64 - share * cases as f64).powi(2)).sum();
        let variance = squares * count / (count - 1.0).max(1.0) / (cases as f64).powi(2);
        let spread = share * (1.0 - share);
        // Where all cases are alike, nothing tells whether those of a cluster are independent.
        let independent = if spread > 0.0 { spread / variance } else { fewest };
        let independent = independent.clamp(fewest, cases as f64);
        Self { value: share, interval: Some(wilson(share, independent)) }
    }

    /// The mean of the values, with its normal interval; one value does not tell how values differ.
    pub fn mean(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / count.max(1.0);
        let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
        let half = NORMAL_95 * (squares / (count - 1.0) / count).sqrt();
        Self { value: mean, interval: (count > 1.0).then_some([mean - half, mean + half]) }
    }

    /// The same figure on another scale; `change` must not fall.
    pub(crate) fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { value: change(self.value), interval: self.interval.map(|ends| ends.map(change)) }
    }
}

/// Wilson's interval for a share of `n` cases.
fn wilson(share: f64, n: f64) -> [f64; 2] {
    let z = NORMAL_95;
    let centre = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    [centre - half, centre + half].map(|end| (end / (1.0 + z * z / n)).clamp(0.0, 1.0))
}

/// Two judges on the same cases: where one alone was right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Cases that only the first got right.
    pub first_only: u64,
    /// Cases that only the second got right.
    pub second_only: u64,
    /// How often fair coins would part them at least as unevenly: the exact two-sided test (McNemar 1947, with the
    /// binomial distribution in place of its approximation).
    pub p_value: f64,
}

impl McNemar {
    /// The test on what each case says of the two.
    pub fn test(cases: impl Iterator<Item = (bool, bool)>) -> Self {
        let (mut first_only, mut second_only) = (0, 0);
        for (first, second) in cases {
            first_only += u64::from(first && !second);
            second_only += u64::from(second && !first);
        }
        let apart = Binomial::new(0.5, first_only + second_only);
        let tail = apart.map_or(1.0, |apart| apart.cdf(first_only.min(second_only)));
        Self { first_only, second_only, p_value: (2.0 * tail).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8 of 10 with z = 1.96: (0.8 + 0.19208 ± 1.96 √(0.016 + 0.009604)) / 1.38416 = 0.4902 and 0.9433, as R's
    /// prop.test without continuity correction gives them.
    #[test]
    fn wilsons_interval_by_hand() {
        let found = Estimate::share(8, 10);
        let [low, high] = found.interval.unwrap();
        assert!(
            found.value == 0.8 && (low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4,
            "{found:?}"
        );
        let [low, high] = Estimate::share(0, 5).interval.unwrap();
        assert!(low == 0.0 && (high - 0.4345).abs() < 1e-4, "{high}");
        assert_eq!(Estimate::share(0, 0).interval, None);
    }

    /// Clusters 2 of 2, 1 of 2, 2 of 2 and 0 of 2: 5 of 8. The hits less 2 · 5/8 are 3/4, -1/4, 3/4 and -5/4, their
    /// squares 44/16 in all; so the variance is 44/16 · 4/3 / 64 = 11/192, and 15/64 over it 45/11 cases.
    #[test]
    fn the_interval_of_clusters_by_hand() {
        let found = Estimate::clustered([(2, 2), (1, 2), (2, 2), (0, 2), (0, 0)].into_iter());
        assert_eq!(found.value, 0.625);
        let expected = wilson(0.625, 45.0 / 11.0);
        assert!(found.interval.unwrap().iter().zip(expected).all(|(found, end)| (found - end).abs() < 1e-12));
        // Alike within clusters: as many cases as clusters. Unlike within them: as many as there are cases.
        let alike = Estimate::clustered([(2, 2), (0, 2)].into_iter());
        assert_eq!(alike.interval, Estimate::share(1, 2).interval);
        let unlike = Estimate::clustered([(1, 2); 5].into_iter());
        assert_eq!(unlike.interval, Estimate::share(5, 10).interval);
        assert_eq!(Estimate::clustered([(2, 2); 3].into_iter()).interval, Estimate::share(3, 3).interval);
        assert_eq!(Estimate::clustered([(0, 0)].into_iter()).interval, None);
        let alone = Estimate::clustered([(1, 2)].into_iter());
        assert_eq!(alone.interval, Estimate::share(1, 2).interval);
    }

    /// Clusters of 1 and 2 cases that are alike within: 3² / (1² + 2²) = 1.8 cases, whether the clusters differ (the
    /// variance would leave 2/9 over 16/81, 1.125) or not.
    #[test]
    fn clusters_of_unequal_sizes_are_fewer_cases_by_hand() {
        let apart = Estimate::clustered([(1, 1), (0, 2)].into_iter());
        assert_eq!(apart.interval, Some(wilson(1.0 / 3.0, 1.8)));
        let alike = Estimate::clustered([(1, 1), (2, 2)].into_iter());
        assert_eq!(alike.interval, Some(wilson(1.0, 1.8)));
        let alone = Estimate::clustered([(2, 2)].into_iter());
        assert_eq!(alone.interval, Some(wilson(1.0, 1.0)));
    }

    /// 1, 2 and 6: mean 3, variance (4 + 1 + 9) / 2 = 7.
    #[test]
    fn the_interval_of_a_mean_by_hand() {
        let found = Estimate::mean([1.0, 2.0, 6.0].into_iter());
        let [low, high] = found.interval.unwrap();
        let half = 1.96 * (7.0f64 / 3.0).sqrt();
        assert!(
            found.value == 3.0 && (low - (3.0 - half)).abs() < 1e-12 && (high - (3.0 + half)).abs() < 1e-12
        );
        assert_eq!(Estimate::mean([4.0].into_iter()), Estimate { value: 4.0, interval: None });
    }

    /// Of 6 cases that part the two, one for the first: 2 (1 + 6) / 2⁶ = 0.21875.
    #[test]
    fn mcnemars_test_by_hand() {
        let cases = [(true, false)].into_iter().chain([(false, true); 5]).chain([(true, true); 9]);
        let found = McNemar::test(cases);
        assert_eq!((found.first_only, found.second_only), (1, 5));
        // statrs takes the tail from the incomplete beta function, to about 1e-13.
        assert!((found.p_value - 0.21875).abs() < 1e-10, "{found:?}");
        assert_eq!(McNemar::test([(true, true), (false, false)].into_iter()).p_value, 1.0);
        let even = McNemar::test([(true, false), (false, true)].into_iter());
        assert!((even.p_value - 1.0).abs() < 1e-10, "{even:?}");
    }
}
