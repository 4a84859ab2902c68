//! Results as a person reads them: one function per command.

mod data;
mod eval;
mod judge;
mod model;
mod model_info;
mod model_plan;
mod recipe;
mod report;
mod train;
mod whole;
mod write;

use collimate_stages::Effort;
use collimate_stages::statistics::Estimate;
use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};
use indicatif::{FormattedDuration, HumanBytes, HumanCount};

use crate::figures::figure;
pub use data::{data_clean, data_inspect, data_rejected, data_sft};
pub use eval::{eval_accuracy, eval_compare, eval_loss, eval_rewards};
pub use judge::{judge_hint, judge_pairs, judge_prompts, judge_sample, judge_tidy, judge_translate};
pub use model::{model_fetch, model_written};
pub use model_info::model_info;
pub use model_plan::model_plan;
pub use recipe::{dry_run, offers, walked};
pub use report::report;
pub use train::{train, train_on_policy};
pub use whole::demo;
pub use write::generate;

/// Names on the left, values on the right.
fn table(facts: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in facts {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(names) = table.column_mut(0) {
        names.set_padding((0, 1));
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// The same, of those facts that there are.
fn known(facts: impl IntoIterator<Item = (&'static str, Option<String>)>) -> String {
    table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// A table with lines around its cells, which is to be filled.
fn grid(header: impl Into<Row>) -> Table {
    let mut grid = Table::new();
    grid.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    grid.set_header(header);
    grid
}

/// The value with the ends of its 95 % interval.
fn estimate(estimate: &Estimate) -> String {
    match estimate.interval {
        Some([low, high]) => {
            format!("{} (95 %: {} to {})", figure(estimate.value), figure(low), figure(high))
        }
        None => figure(estimate.value),
    }
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A count worth a line only if there is something to count.
fn some_of(number: u64) -> Option<String> {
    (number > 0).then(|| count(number))
}

/// A share in percent, with the ends of its interval.
fn share(share: &Estimate) -> String {
    let ends = share.interval.map(|[low, high]| format!(" ({:.1} to {:.1})", 100.0 * low, 100.0 * high));
    percent(share.value) + &ends.unwrap_or_default()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Tokens, and the time that they took; nothing where none were counted, as when a server wrote them.
fn speed(Effort { tokens, seconds, tokens_per_second }: &Effort) -> Option<String> {
    let shown =
        || format!("{} in {}, {} a second", count(*tokens), time(*seconds), figure(*tokens_per_second));
    (*tokens > 0).then(shown)
}

fn bytes(number: u64) -> String {
    HumanBytes(number).to_string()
}

fn time(seconds: f64) -> String {
    let duration = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    FormattedDuration(duration).to_string()
}
