//! What several steps came to

use collimate_stages::{demo as stage, eval_loss};
use comfy_table::{ContentArrangement, Table, presets};

use super::{bytes, count, estimate, table, time};
use crate::figures::figure;

/// What the demo's training changed on the validation split, what it cost, and where everything stands.
pub fn demo(summary: &stage::Summary) -> String {
    let stage::Summary { before, after, training, made, .. } = summary;
    let mut change = Table::new();
    change.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    change.set_header(["on the validation split", "before", "after"]);
    let row = |name: &str, figure: &dyn Fn(&eval_loss::Summary) -> String| {
        [name.to_owned(), figure(before), figure(after)]
    };
    change.add_rows([
        row("loss", &|side| estimate(&side.loss)),
        row("perplexity", &|side| estimate(&side.perplexity)),
        row("token accuracy", &|side| estimate(&side.mean_token_accuracy)),
    ]);
    let facts = [
        ("steps of training", Some(count(training.steps))),
        ("tokens a second in training", Some(figure(training.tokens_per_second))),
        ("tokens a second in measuring", Some(figure(after.tokens_per_second))),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
        ("time", Some(time(summary.seconds))),
    ];
    let facts = table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let places = [
        ("model", &made.model),
        ("instructions", &made.instructions),
        ("cleaned", &made.cleaned),
        ("trained on", &made.train),
        ("measured on", &made.validation),
        ("adapter", &made.adapter),
        ("answers side by side", &made.comparison),
    ];
    let places = places.map(|(name, path)| format!("{name:<20}  {}", path.display()));
    format!("{change}\n\n{facts}\n\n{}", places.join("\n"))
}
