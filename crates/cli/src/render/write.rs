//! What a model wrote

use collimate_run::Outcome;
use collimate_stages::generate as stage;
use comfy_table::{ContentArrangement, Table, presets};

use super::{bytes, count, known, some_of, speed};

/// Some samples to read, and what writing them took.
pub fn generate(outcome: &Outcome<stage::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("prompts answered", Some(count(summary.prompts))),
        ("samples", Some(count(summary.samples))),
        ("samples that reached max_new_tokens", some_of(summary.cut_off)),
        ("tokens", speed(&summary.effort)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    let facts = known(facts);
    summary.examples.iter().map(example).collect::<String>() + &facts
}

/// A sample in a box, under its prompt.
pub(super) fn example(stage::Example { prompt, r#gen }: &stage::Example) -> String {
    let mut box_of_text = Table::new();
    box_of_text.load_style(presets::UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
    box_of_text.add_row([r#gen.trim()]);
    format!("{}\n{box_of_text}\n\n", prompt.trim())
}
