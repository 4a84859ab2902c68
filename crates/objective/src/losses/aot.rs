//! AOT: one distribution is to dominate another, so that both are sorted before they are compared.
//!
//! Melnyk et al. 2024, "Distributional Preference Alignment of LLMs via Optimal Transport".

use super::Heeded::LabelSmoothing;
use super::sigmoid::smoothed;
use super::{Form, Pair, PairLoss, Settings, Value};

/// The policy's log-ratios log π(y_c) - log π(y_r) against the reference's, k-th smallest against k-th smallest.
pub(crate) const AOT: PairLoss =
    PairLoss { name: "aot", form: Form::Across(paired), heeds: &[LabelSmoothing] };

/// The chosen answers' scores against those of the rejected, k-th smallest against k-th smallest.
pub(crate) const AOT_UNPAIRED: PairLoss =
    PairLoss { name: "aot_unpaired", form: Form::Across(unpaired), heeds: &[LabelSmoothing] };

fn paired(pairs: &[Pair], settings: &Settings) -> Vec<Value> {
    let policy = |pair: &Pair| pair.chosen.log_prob - pair.rejected.log_prob;
    let reference = |pair: &Pair| pair.chosen.reference - pair.rejected.reference;
    let mut values = vec![Value::default(); pairs.len()];
    for (at, against) in order(pairs, policy).into_iter().zip(order(pairs, reference)) {
        let z = settings.beta * (policy(&pairs[at]) - reference(&pairs[against]));
        let (loss, slope) = smoothed(z, settings.label_smoothing);
        values[at] = Value::of_advantage(loss, slope, settings.beta);
    }
    values
}

fn unpaired(pairs: &[Pair], settings: &Settings) -> Vec<Value> {
    let chosen = order(pairs, |pair| pair.chosen.score);
    let rejected = order(pairs, |pair| pair.rejected.score);
    let mut values = vec![Value::default(); pairs.len()];
    for (at, against) in chosen.into_iter().zip(rejected) {
        let z = settings.beta * (pairs[at].chosen.score - pairs[against].rejected.score);
        let (loss, slope) = smoothed(z, settings.label_smoothing);
        // The loss of this rank is booked on the pair of the chosen answer; only the sum over the batch has meaning.
        values[at].loss = loss;
        values[at].chosen = settings.beta * slope;
        values[against].rejected = -settings.beta * slope;
    }
    values
}

/// The pairs' indices, smallest `key` first; equal ones in their order.
fn order(pairs: &[Pair], key: impl Fn(&Pair) -> f64) -> Vec<usize> {
    let mut order: Vec<_> = (0..pairs.len()).collect();
    order.sort_by(|&a, &b| key(&pairs[a]).total_cmp(&key(&pairs[b])));
    order
}
