//! What a training logged, as curves over its steps.

use std::path::Path;

use crate::rows::each_row;

/// Where trainings log.
pub(crate) const METRICS_FILE: &str = "metrics.jsonl";

/// Most points of a curve; more are not to be told apart on a screen.
const MOST_POINTS: usize = 600;

/// The curves that are drawn: the metric and its title. Evaluations log the same with `eval_` before it.
const METRICS: [(&str, &str); 6] = [
    ("loss", "Loss"),
    ("rewards/accuracies", "Reward accuracy"),
    ("rewards/margins", "Reward margin"),
    ("mean_token_accuracy", "Token accuracy"),
    ("learning_rate", "Learning rate"),
    ("grad_norm", "Gradient norm"),
];

/// A metric over the steps.
#[derive(Debug, PartialEq)]
pub(crate) struct Curve {
    /// What it is called.
    pub title: &'static str,
    /// The metric's name in the log.
    pub metric: &'static str,
    /// In training: step and value.
    pub train: Vec<(f64, f64)>,
    /// In evaluation.
    pub eval: Vec<(f64, f64)>,
}

/// Reads the curves of a training's folder, and what is wrong with its log.
pub(crate) fn read(folder: &Path) -> (Vec<Curve>, Option<String>) {
    let empty = |(metric, title)| Curve { title, metric, train: Vec::new(), eval: Vec::new() };
    let mut curves = METRICS.map(empty);
    let reading = each_row(&folder.join(METRICS_FILE), |record| {
        let number = |name: &str| record.get(name)?.as_f64();
        let Some(step) = number("step") else { return };
        for curve in &mut curves {
            curve.train.extend(number(curve.metric).map(|value| (step, value)));
            curve.eval.extend(number(&format!("eval_{}", curve.metric)).map(|value| (step, value)));
        }
    });
    let mut curves: Vec<Curve> = curves.into_iter().filter(Curve::has_points).collect();
    for curve in &mut curves {
        curve.train = thinned(&curve.train);
        curve.eval = thinned(&curve.eval);
    }
    (curves, reading.complaint(METRICS_FILE))
}

impl Curve {
    fn has_points(&self) -> bool {
        !self.train.is_empty() || !self.eval.is_empty()
    }
}

/// At most [`MOST_POINTS`]: of so many stretches of equal length the lowest and the highest, so that no peak
/// is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = |points: &[(f64, f64)]| {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = [points.iter().min_by(by_value), points.iter().max_by(by_value)];
        let mut ends: Vec<(f64, f64)> = ends.into_iter().flatten().copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends
    };
    points.chunks(points.len().div_ceil(MOST_POINTS / 2)).flat_map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_every_peak() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|step| (f64::from(step), 1.0)).collect();
        points[77_777].1 = 9.0;
        points[1234].1 = -9.0;
        let found = thinned(&points);
        assert!(found.len() <= MOST_POINTS);
        assert!(found.contains(&(77_777.0, 9.0)) && found.contains(&(1234.0, -9.0)));
        assert!(found.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        assert_eq!(thinned(&points[..3]), points[..3]);
    }
}
