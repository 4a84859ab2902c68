//! What the demo came to

use collimate_stages::statistics::Estimate;
use comfy_table::{ContentArrangement, Table, presets};

use super::{estimate, share, walked as steps};
use crate::recipe::Walked;

/// A figure before and after: its name, and where both stand, each a step with a pointer into its summary.
struct Change {
    name: &'static str,
    before: (&'static str, &'static str),
    after: (&'static str, &'static str),
    shown: fn(&Estimate) -> String,
}

/// What the two halves of the demo are to change.
const CHANGES: [Change; 5] = [
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
        before: ("eval_accuracy", "/base/accuracy"),
        after: ("eval_accuracy", "/tuned/accuracy"),
        shown: share,
    },
    Change {
        name: "unreadable judgements",
        before: ("eval_accuracy", "/base/unreadable"),
        after: ("eval_accuracy", "/tuned/unreadable"),
        shown: share,
    },
];

/// The steps of the demo, and what its two trainings changed.
pub fn demo(walked: &Walked) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["on what was not trained on", "before", "after"]);
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
