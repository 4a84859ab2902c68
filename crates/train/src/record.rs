//! Log records, in the field names of transformers and TRL.

use crate::{Evaluation, Record, TrainerState};
use serde_json::json;

/// What the steps since the last record say together.
pub(crate) fn of_window(state: &TrainerState) -> Record {
    let progress = &state.stateful_callbacks.collimate;
    let window = &progress.window;
    let mut record = begin(state);
    record.insert("loss".into(), json!(window.loss / window.steps.max(1) as f64));
    record.insert("learning_rate".into(), json!(window.learning_rate));
    record.insert("grad_norm".into(), json!(window.grad_norm));
    record.extend(window.metrics.means().map(|(name, mean)| (name.to_owned(), json!(mean))));
    record.insert("num_tokens".into(), json!(state.num_input_tokens_seen));
    record.insert("tokens_per_second".into(), json!(window.tokens_per_second()));
    record.insert("seconds".into(), json!(progress.seconds));
    if !window.exchange.is_nothing() {
        let steps = window.steps.max(1);
        record.insert("exchange_bytes".into(), json!(window.exchange.bytes / steps));
        record.insert("exchange_seconds".into(), json!(window.exchange.seconds / steps as f64));
    }
    record
}

/// What an evaluation says.
pub(crate) fn of_evaluation(state: &TrainerState, evaluation: &Evaluation) -> Record {
    let mut record = begin(state);
    record.insert("eval_loss".into(), json!(evaluation.loss));
    record.extend(evaluation.metrics.means().map(|(name, mean)| (format!("eval_{name}"), json!(mean))));
    record.insert("eval_num_tokens".into(), json!(evaluation.tokens));
    record.insert("eval_runtime".into(), json!(evaluation.seconds));
    record
}

fn begin(state: &TrainerState) -> Record {
    Record::from_iter([("step".into(), json!(state.global_step)), ("epoch".into(), json!(state.epoch))])
}
