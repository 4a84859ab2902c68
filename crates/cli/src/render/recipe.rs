//! What the steps of a recipe did, or would do

use comfy_table::{ContentArrangement, Table, presets};

use super::{grid, time};
use crate::recipe::init::Offer;
use crate::recipe::{DryRun, Walked, Would};

/// One line a step: whether it ran, and how long it took.
pub fn walked(walked: &Walked) -> String {
    let mut table = grid(["step", "command", "outcome", "time"]);
    for step in &walked.steps {
        let (outcome, taken) = match step.done.reused {
            true => ("was done", String::new()),
            false => ("done", time(step.seconds)),
        };
        table.add_row([&step.step, step.command, outcome, &taken]);
    }
    let report = walked.report.as_ref().map(|page| format!("; {} shows it", page.display()));
    format!("{table}\n\nEverything stands in {}{}", walked.output.display(), report.unwrap_or_default())
}

/// One line a step: what it would do, and why.
pub fn dry_run(found: &DryRun) -> String {
    let mut table = grid(["step", "command", "would", "why"]);
    for step in &found.steps {
        let would = match step.would {
            Would::BeDone => "stay: it is done",
            Would::GoOn => "go on where it stopped",
            Would::Run => "run",
            Would::RunAnew => "run anew",
            Would::Wait => "run, if its input changes",
            Would::Fail => "fail",
        };
        table.add_row([&step.step, step.command, would, step.why.as_deref().unwrap_or_default()]);
    }
    format!("{table}\n\nEverything would stand in {}; nothing was done", found.output.display())
}

/// What `init` can write.
pub fn offers(offers: &[Offer]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for offer in offers {
        table.add_row([&offer.name, &offer.about]);
    }
    if let Some(names) = table.column_mut(0) {
        names.set_padding((0, 1));
    }
    format!("{}\n\n`collimate init NAME` writes one of them", table.trim_fmt())
}
