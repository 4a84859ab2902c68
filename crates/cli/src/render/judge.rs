//! What became of pairs on their way to judgements and to pairs again

use collimate_run::Outcome;
use collimate_stages::judge::pairs::Unpaired;
use collimate_stages::judge::{hint, pairs, prompts, sample, tidy, translate};

use super::write::example;
use super::{bytes, count, grid, known, percent, some_of, speed};

/// How many prompts there are, and where the preferred answers stand.
pub fn judge_prompts(outcome: &Outcome<prompts::Summary>) -> String {
    let prompts::Summary { read, written, chosen_first, languages, inert, identical, rejected } =
        &outcome.summary;
    let first = format!("{} ({})", count(*chosen_first), percent(*chosen_first as f64 / *written as f64));
    let facts = [
        ("raw rows read", Some(count(*read))),
        ("prompts", Some(count(*written))),
        ("preferred answer first", Some(first)),
        ("in Chinese", some_of(languages.zh)),
        ("in English", some_of(languages.en)),
        ("with a marker made inert", some_of(*inert)),
        ("dropped: equal answers", some_of(*identical)),
        ("bad, set aside", some_of(*rejected)),
    ];
    known(facts)
}

/// How many rows are in English now, and what it cost.
pub fn judge_translate(outcome: &Outcome<translate::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("rows read", Some(count(summary.read))),
        ("rows beyond max_samples, left", some_of(summary.left)),
        ("translated", Some(count(summary.translated))),
        ("in English already", some_of(summary.unchanged)),
        ("kept aside: a part failed its checks", some_of(summary.kept_aside)),
        ("translations asked for again", some_of(summary.asked_again)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("tokens of requests", some_of(summary.prompt_tokens)),
        ("tokens of answers", some_of(summary.completion_tokens)),
        ("tokens", speed(&summary.effort)),
    ];
    known(facts)
}

/// Some judgements to read, and what they are worth.
pub fn judge_sample(outcome: &Outcome<sample::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("prompts answered", Some(count(summary.prompts))),
        ("judgements", Some(count(summary.samples))),
        ("positive: for the preferred answer", Some(count(summary.positive))),
        ("negative: for the other one", Some(count(summary.negative))),
        ("unknown: no verdict to be read", Some(count(summary.unknown))),
        ("judgements that reached max_new_tokens", some_of(summary.cut_off)),
        ("tokens", speed(&summary.effort)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    let facts = known(facts);
    summary.examples.iter().map(example).collect::<String>() + &facts
}

/// How many reasons there are for the truth, and for its opposite.
pub fn judge_hint(outcome: &Outcome<hint::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("prompts", Some(count(summary.prompts))),
        ("judgements for the truth", Some(count(summary.guide))),
        ("judgements for its opposite", Some(count(summary.guide_reverse))),
        ("judgements without a reason, left out", some_of(summary.empty_reasons)),
        ("reasons that reached max_new_tokens", some_of(summary.cut_off)),
        ("tokens", speed(&summary.effort)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    known(facts)
}

/// What was kept of each file, and what was not.
pub fn judge_tidy(outcome: &Outcome<tidy::Summary>) -> String {
    let tidy::Summary { ids, read, rows, missing, left_out, duplicates, rejected } = outcome.summary.clone();
    let mut files = grid(["", "read", "kept", "repeated", "left out", "prompts missing"]);
    let columns = [read, rows, duplicates, left_out, missing].map(|column| column.named());
    for file in 0..columns[0].len() {
        let counts = columns.iter().map(|column| count(column[file].1));
        files.add_row(std::iter::once(columns[0][file].0.to_owned()).chain(counts));
    }
    let facts = [("prompts in all three", Some(count(ids))), ("bad rows, set aside", some_of(rejected))];
    let facts = known(facts);
    format!("{files}\n\n{facts}")
}

/// How many pairs of each type there are, and which prompts have none.
pub fn judge_pairs(outcome: &Outcome<pairs::Summary>) -> String {
    let summary = &outcome.summary;
    let mut pairs = grid(["", "train", "validation"]);
    let row =
        |name: &str, split: &pairs::BySplit| [name.to_owned(), count(split.train), count(split.validation)];
    pairs.add_row(row("prompts", &summary.ids));
    for (pair_type, split) in &summary.pairs {
        pairs.add_row(row(pair_type.name(), split));
    }
    let mut verdicts = grid(["", "positive", "negative", "unknown"]);
    for (name, pairs::Verdicts { positive, negative, unknown }) in summary.verdicts.named() {
        verdicts.add_row([name.to_owned(), count(positive), count(negative), count(unknown)]);
    }
    let unpaired = summary.unpaired.iter().map(|(reason, number)| (without_pair(*reason), some_of(*number)));
    let facts = [
        ("prompts that were not judged", some_of(summary.not_judged)),
        ("reasons cut", some_of(summary.reasons_cut)),
        ("reasons too long, without a full stop", some_of(summary.reasons_without_stop)),
        ("pairs left out: equal texts", some_of(summary.equal_texts)),
        ("bad prompts, set aside", some_of(summary.rejected)),
    ];
    let facts = known(unpaired.chain(facts));
    format!("{pairs}\n\n{verdicts}\n\n{facts}").trim_end().to_owned()
}

fn without_pair(reason: Unpaired) -> &'static str {
    match reason {
        Unpaired::AllPositive => "prompts without a pair: all samples are right",
        Unpaired::AllNegative => "prompts without a pair: no sample is right",
        Unpaired::Unreadable => "prompts without a pair: no sample names an answer",
        Unpaired::EqualTexts => "prompts without a pair: equal texts",
    }
}
