//! What the demo came to

use collimate_stages::statistics::Estimate;

use super::{estimate, grid, share, walked as steps};
use crate::recipe::Walked;

/// A figure before and after: its name, and where both stand, each a step with a pointer into its summary.
struct Change {
    name: &'static str,
    before: (&'static str, &'static str),
    after: (&'static str, &'static str),
    shown: fn(&Estimate) -> String,
}

/// What the two halves of the demo are to change.
const CHANGES: [Change; 6] = [
    Change {
        name: "loss on instructions",
        before: ("loss_before", "/loss"),
        after: ("loss_after", "/loss"),
        shown: estimate,
    },
    Change {
        name: "perplexity on instructions",
        before: ("loss_before", "/perplexity"),
        after: ("loss_after", "/perplexity"),
        shown: estimate,
    },
    Change {
        name: "token accuracy on instructions",
        before: ("loss_before", "/mean_token_accuracy"),
        after: ("loss_after", "/mean_token_accuracy"),
        shown: estimate,
    },
    Change {
        name: "better answers named",
        before: ("eval_accuracy", "/all/base/accuracy"),
        after: ("eval_accuracy", "/all/tuned/accuracy/accuracy"),
        shown: share,
    },
    Change {
        name: "same answer named in both orders",
        before: ("eval_accuracy", "/all/base/consistency"),
        after: ("eval_accuracy", "/all/tuned/accuracy/consistency"),
        shown: share,
    },
    Change {
        name: "unreadable judgements",
        before: ("eval_accuracy", "/all/base/unreadable"),
        after: ("eval_accuracy", "/all/tuned/accuracy/unreadable"),
        shown: share,
    },
];

/// The steps of the demo, and what its two trainings changed.
pub fn demo(walked: &Walked) -> String {
    let mut table = grid(["on what was not trained on", "before", "after"]);
    for Change { name, before, after, shown } in CHANGES {
        let figure = |(step, pointer): (&str, &str)| {
            let found = walked.step(step).and_then(|done| done.summary.pointer(pointer));
            let found = found.and_then(|value| serde_json::from_value(value.clone()).ok());
            found.as_ref().map_or_else(|| "not measured".to_owned(), shown)
        };
        table.add_row([name.to_owned(), figure(before), figure(after)]);
    }
    format!("{}\n\n{table}", steps(walked))
}

#[cfg(test)]
mod tests {
    use collimate_stages::eval_loss;
    use serde_json::{Value, json};

    use super::*;

    fn loss(value: f64) -> Value {
        let estimate = |value: f64| Estimate { value, interval: Some([0.5 * value, 1.5 * value]) };
        let summary = eval_loss::Summary {
            loss: estimate(value),
            perplexity: estimate(value.exp()),
            mean_token_accuracy: estimate(1.0 / value),
            entropy: 1.0,
            sequences: 50,
            trained_tokens: 8_000,
            tokens: 9_000,
            truncated: 0,
            skipped: 0,
            rejected: 0,
            seconds: 1.0,
            tokens_per_second: 9_000.0,
            peak_memory_bytes: None,
        };
        serde_json::to_value(summary).unwrap()
    }

    #[test]
    fn both_halves_stand_side_by_side() {
        let share = |value: f64| json!({"value": value, "interval": [value - 0.125, value + 0.125]});
        let side =
            |value| json!({"accuracy": share(value), "consistency": share(0.5), "unreadable": share(0.25)});
        let judged = json!({"all": {"pairs": 8, "base": side(0.5), "tuned": {"accuracy": side(0.75)}}});
        let steps = [("loss_before", loss(2.0)), ("loss_after", loss(1.6)), ("eval_accuracy", judged)];
        insta::assert_snapshot!("demo", demo(&Walked::example(&steps)));
        insta::assert_snapshot!("demo_that_lacks_a_half", demo(&Walked::example(&steps[..2])));
    }
}
