//! What a run changed: losses and accuracies of models on the same rows, side by side.

use serde_json::Value;

use crate::estimate::Estimate;
use crate::run::{Run, Step};

/// Models measured on the same rows.
#[derive(Debug, PartialEq)]
pub(crate) struct Comparison {
    /// The steps that measured, by their index and in order.
    pub steps: Vec<usize>,
    /// What stands over the columns: `before`, `after`.
    pub columns: Vec<String>,
    /// The rows.
    pub measures: Vec<Measure>,
}

/// One measure of a comparison.
#[derive(Debug, PartialEq)]
pub(crate) struct Measure {
    /// What is measured.
    pub name: &'static str,
    /// Whether it is a part of one.
    pub is_share: bool,
    /// The figure of each column, where there is one.
    pub figures: Vec<Option<Estimate>>,
}

/// What `eval loss` measures: field of the summary, name, and whether it is a share.
const LOSSES: [(&str, &str, bool); 3] = [
    ("/loss", "Loss", false),
    ("/perplexity", "Perplexity", false),
    ("/mean_token_accuracy", "Token accuracy", true),
];

/// What `eval accuracy` measures of each model, in either of its forms: the field of its figures, and the
/// name.
const ACCURACIES: [(&str, &str); 8] = [
    ("accuracy", "The preferred answer is named"),
    ("first_order_accuracy", "… as the prompt stands"),
    ("consistent_accuracy", "… where both orders agree"),
    ("consistency", "Both orders agree"),
    ("first_named", "The answer that stands first is named"),
    ("unreadable", "No answer is named"),
    ("sum", "The preferred answer is the likelier one"),
    ("length_normalised", "… by token"),
];

/// All comparisons of a run.
pub(crate) fn comparisons(run: &Run) -> Vec<Comparison> {
    let accuracies = run.steps.iter().enumerate().filter(|(_, step)| step.manifest.stage == "eval_accuracy");
    let accuracies = accuracies.filter_map(|(index, step)| accuracy(index, step));
    accuracies.chain(losses(run)).collect()
}

/// The measures of base and tuned model in the figures of all pairs or of a group.
pub(crate) fn accuracies(figures: &Value) -> Vec<Measure> {
    let read = |pointer: String| figures.pointer(&pointer).and_then(Estimate::read);
    let measure = |(field, name)| {
        let figures = ["/base/", "/tuned/accuracy/"].map(|model| read(format!("{model}{field}")));
        Measure { name, is_share: true, figures: figures.to_vec() }
    };
    let measures = ACCURACIES.map(measure).into_iter();
    measures.filter(|measure| measure.figures[0].is_some()).collect()
}

fn accuracy(index: usize, step: &Step) -> Option<Comparison> {
    let measures = accuracies(step.figure("/all")?);
    let has_tuned = measures.iter().any(|measure| measure.figures[1].is_some());
    let columns = ["before", "after"].map(str::to_owned).to_vec();
    has_tuned.then(|| Comparison { steps: vec![index], columns, measures })
}

/// Whether the second step measured the model of the first with an adapter on it, and the first had none.
fn is_tuned_form(first: &Step, second: &Step) -> bool {
    match (&first.manifest.inputs[..], &second.manifest.inputs[..]) {
        ([model, _rows], [same, _, _adapter]) => model.contents.blake3 == same.contents.blake3,
        _ => false,
    }
}

/// The steps that measured the loss on the same rows in the same way, two or more of them, for each such set.
fn losses(run: &Run) -> Vec<Comparison> {
    let mut sets: Vec<((&str, &Value), Vec<usize>)> = Vec::new();
    for (index, step) in run.steps.iter().enumerate() {
        // The model comes first, then the rows, then an adapter if there is one.
        let Some(rows) = step.manifest.inputs.get(1).filter(|_| step.manifest.stage == "eval_loss") else {
            continue;
        };
        let same = (rows.contents.blake3.as_str(), &step.manifest.settings);
        match sets.iter_mut().find(|(key, _)| *key == same) {
            Some((_, steps)) => steps.push(index),
            None => sets.push((same, vec![index])),
        }
    }
    let comparison = |steps: Vec<usize>| {
        let figures = |pointer: &str| -> Vec<_> {
            steps.iter().map(|&step| run.steps[step].figure(pointer).and_then(Estimate::read)).collect()
        };
        let measure = |(pointer, name, is_share)| Measure { name, is_share, figures: figures(pointer) };
        let columns = match steps[..] {
            [first, second] if is_tuned_form(&run.steps[first], &run.steps[second]) => {
                ["before", "after"].map(str::to_owned).to_vec()
            }
            _ => steps.iter().map(|&step| run.steps[step].label().replace('_', " ")).collect(),
        };
        Comparison { columns, measures: LOSSES.map(measure).into(), steps }
    };
    sets.into_iter().map(|(_, steps)| steps).filter(|steps| steps.len() > 1).map(comparison).collect()
}
