//! What a training logged, as curves over its steps.

use std::path::Path;

use serde_json::{Map, Value};

use crate::rows::each_row;

/// Where trainings log.
pub(crate) const METRICS_FILE: &str = "metrics.jsonl";

/// Most points of a curve; more are not to be told apart on a screen.
const MOST_POINTS: usize = 600;

/// Most curves of a training, however many rewards it has.
const MOST_CURVES: usize = 30;

/// The curves that are drawn, in this order: the metric, with `*` for any name, and the title, with `{}` for that
/// name. Evaluations log the same with `eval_` before it; `reward_std` and `rewards/NAME/std` go with their means.
const METRICS: [(&str, &str); 12] = [
    ("reward", "Reward"),
    ("rewards/*/mean", "Reward: {}"),
    ("kl", "Divergence from the reference (KL)"),
    ("completions/mean_length", "Tokens of a completion"),
    ("completions/clipped_ratio", "Share of completions cut off"),
    ("loss", "Loss"),
    ("rewards/accuracies", "Reward accuracy"),
    ("rewards/margins", "Reward margin"),
    ("mean_token_accuracy", "Token accuracy"),
    ("entropy", "Entropy"),
    ("learning_rate", "Learning rate"),
    ("grad_norm", "Gradient norm"),
];

/// A metric over the steps.
#[derive(Debug, PartialEq)]
pub(crate) struct Curve {
    /// What it is called.
    pub title: String,
    /// The metric's name in the log.
    pub metric: String,
    /// In training.
    pub train: Vec<Point>,
    /// In evaluation.
    pub eval: Vec<Point>,
    /// Its place among the curves.
    place: usize,
}

/// A metric at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// The step.
    pub step: f64,
    /// The mean.
    pub value: f64,
    /// The standard deviation of what it is the mean of, where that was logged.
    pub deviation: Option<f64>,
}

/// Reads the curves of a training's folder, and what is wrong with its log.
pub(crate) fn read(folder: &Path) -> (Vec<Curve>, Option<String>) {
    let mut curves = Vec::new();
    let reading = each_row(&folder.join(METRICS_FILE), |record| add(&mut curves, record));
    curves.sort_by_key(|curve| curve.place);
    for curve in &mut curves {
        curve.train = thinned(&curve.train);
        curve.eval = thinned(&curve.eval);
    }
    (curves, reading.complaint(METRICS_FILE))
}

/// Adds what a record says to the curves, of which new ones begin where it names new metrics.
fn add(curves: &mut Vec<Curve>, record: &Map<String, Value>) {
    let number = |name: &str| record.get(name).and_then(Value::as_f64);
    let Some(step) = number("step") else { return };
    for (name, value) in record {
        let metric = name.strip_prefix("eval_").unwrap_or(name);
        let Some(value) = value.as_f64() else { continue };
        let Some(curve) = curve_of(curves, metric) else { continue };
        let point = Point { step, value, deviation: number(&deviation_of(name)) };
        if metric.len() == name.len() { curve.train.push(point) } else { curve.eval.push(point) }
    }
}

/// The curve of a metric, if it is one of those that are drawn.
fn curve_of<'a>(curves: &'a mut Vec<Curve>, metric: &str) -> Option<&'a mut Curve> {
    let known = curves.iter().position(|curve| curve.metric == metric);
    let index = known.unwrap_or(curves.len());
    if known.is_none() && index < MOST_CURVES {
        let (place, title) = place_and_title(metric)?;
        curves.push(Curve { title, metric: metric.to_owned(), train: Vec::new(), eval: Vec::new(), place });
    }
    curves.get_mut(index)
}

fn place_and_title(metric: &str) -> Option<(usize, String)> {
    METRICS.iter().enumerate().find_map(|(place, (pattern, title))| match pattern.split_once('*') {
        Some((before, after)) => {
            let name = metric.strip_prefix(before)?.strip_suffix(after)?;
            Some((place, title.replace("{}", name)))
        }
        None => (metric == *pattern).then(|| (place, (*title).to_owned())),
    })
}

/// The name under which the standard deviation of a mean is logged.
fn deviation_of(mean: &str) -> String {
    match mean.strip_suffix("/mean") {
        Some(name) => format!("{name}/std"),
        None => format!("{mean}_std"),
    }
}

/// At most [`MOST_POINTS`]: of so many stretches of equal length the lowest and the highest, so that no peak
/// is lost.
fn thinned(points: &[Point]) -> Vec<Point> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = |points: &[Point]| {
        let by_value = |a: &&Point, b: &&Point| a.value.total_cmp(&b.value);
        let ends = [points.iter().min_by(by_value), points.iter().max_by(by_value)];
        let mut ends: Vec<Point> = ends.into_iter().flatten().copied().collect();
        ends.sort_by(|a, b| a.step.total_cmp(&b.step));
        ends
    };
    points.chunks(points.len().div_ceil(MOST_POINTS / 2)).flat_map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thinning_keeps_every_peak() {
        let at = |step: f64, value: f64| Point { step, value, deviation: None };
        let mut points: Vec<Point> = (0..100_000).map(|step| at(f64::from(step), 1.0)).collect();
        points[77_777].value = 9.0;
        points[1234].value = -9.0;
        let found = thinned(&points);
        assert!(found.len() <= MOST_POINTS);
        assert!(found.contains(&at(77_777.0, 9.0)) && found.contains(&at(1234.0, -9.0)));
        assert!(found.windows(2).all(|pair| pair[0].step <= pair[1].step));
        assert_eq!(thinned(&points[..3]), points[..3]);
    }

    fn curves(records: &[Value]) -> Vec<Curve> {
        let mut curves = Vec::new();
        records.iter().for_each(|record| add(&mut curves, record.as_object().unwrap()));
        curves
    }

    #[test]
    fn each_reward_has_a_curve_of_its_own_with_its_deviations() {
        let found = curves(&[
            json!({ "step": 1, "kl": null, "rewards/b/mean": 0.5, "rewards/b/std": 0.25, "rewards/a/mean": 1,
                "rewards/chosen": 3 }),
            json!({ "step": 2, "eval_rewards/b/mean": 0.75, "eval_rewards/b/std": 0.5 }),
            json!({ "rewards/c/mean": 1 }),
        ]);
        let names: Vec<(&str, &str)> = found.iter().map(|curve| (&*curve.metric, &*curve.title)).collect();
        assert_eq!(names, [("rewards/b/mean", "Reward: b"), ("rewards/a/mean", "Reward: a")]);
        assert_eq!(found[0].train, [Point { step: 1.0, value: 0.5, deviation: Some(0.25) }]);
        assert_eq!(found[0].eval, [Point { step: 2.0, value: 0.75, deviation: Some(0.5) }]);
        assert_eq!(found[1].train[0].deviation, None);
    }

    #[test]
    fn there_is_an_end_to_the_curves() {
        let many = (0..100).map(|number| json!({ "step": 1, format!("rewards/{number}/mean"): 1 }));
        assert_eq!(curves(&many.collect::<Vec<_>>()).len(), MOST_CURVES);
    }
}
