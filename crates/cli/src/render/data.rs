//! What became of rows

use collimate_run::Outcome;
use collimate_stages::data_inspect::{Group, Split, Spread, Unit, Unpaired, Verdicts};
use collimate_stages::{data_clean, data_inspect, data_rejected, data_sft};
use comfy_table::{CellAlignment, Table};

use super::{bytes, count, grid, known, percent, share, some_of, speed, table};

/// What cleaning kept and dropped.
pub fn data_clean(outcome: &Outcome<data_clean::Summary>) -> String {
    let data_clean::Summary { read, kept, inputs_emptied, rejected, dropped } = &outcome.summary;
    table([
        ("rows read", count(*read)),
        ("kept", count(*kept)),
        ("kept, with an input that said it was none", count(*inputs_emptied)),
        ("dropped: no instruction", count(dropped.empty_instruction)),
        ("dropped: no output", count(dropped.empty_output)),
        ("dropped: repeats an earlier row", count(dropped.exact_duplicate)),
        ("dropped: almost repeats an earlier row", count(dropped.near_duplicate)),
        ("bad, set aside", count(*rejected)),
    ])
}

/// How the rows were split.
pub fn data_sft(outcome: &Outcome<data_sft::Summary>) -> String {
    let data_sft::Summary { read, train, validation, empty_output, rejected } = &outcome.summary;
    table([
        ("rows read", count(*read)),
        ("for training", count(*train)),
        ("for validation", count(*validation)),
        ("left out: no output", count(*empty_output)),
        ("bad, set aside", count(*rejected)),
    ])
}

/// How many pairs there are, and what was done for them.
pub fn data_rejected(outcome: &Outcome<data_rejected::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("rows read", Some(count(summary.read))),
        ("pairs for training", Some(count(summary.train))),
        ("pairs for validation", Some(count(summary.validation))),
        ("answers asked for again: empty", some_of(summary.empty)),
        ("answers asked for again: equal to the chosen one", some_of(summary.identical)),
        ("rows dropped: no other answer", some_of(summary.dropped)),
        ("answers without the prompt's echo", some_of(summary.echo_stripped)),
        ("answers without code fences", some_of(summary.fences_stripped)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("tokens", speed(&summary.effort)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    known(facts)
}

/// What stands in preference pairs: counts, lengths, defects.
pub fn data_inspect(outcome: &Outcome<data_inspect::Summary>) -> String {
    let summary = &outcome.summary;
    let leakage = &summary.leakage;
    let facts = [
        ("chosen longer than rejected", summary.lengths.chosen_longer.as_ref().map(share)),
        ("chosen answer first in the judge's prompt", summary.chosen_first.as_ref().map(share)),
        ("rows that repeat an earlier one", Some(count(summary.duplicates))),
        ("chosen and rejected the same", Some(count(summary.identical))),
        ("prompts in more than one split", Some(count(leakage.prompts))),
        ("test_ids in more than one split", leakage.ids.map(count)),
        ("bad rows, set aside", some_of(summary.rejected)),
    ];
    let facts = known(facts);
    let parts = [rows(summary), unpaired(&summary.unpaired), verdicts(&summary.verdicts), lengths(summary)];
    parts.into_iter().flatten().map(|part| format!("{part}\n\n")).collect::<String>() + &facts
}

fn rows(summary: &data_inspect::Summary) -> Option<Table> {
    let ids = |ids: &Option<u64>| ids.map_or_else(|| "–".to_owned(), count);
    let lines = summary.splits.iter().flat_map(|Split { split, rows, ids: all }| {
        let groups = summary.groups.iter().filter(move |group| group.split == *split);
        let group = move |Group { pair_type, rows, ids: some, .. }: &Group| {
            [pair_type.clone(), count(*rows), ids(some)]
        };
        let whole = ["all".to_owned(), count(*rows), ids(all)];
        std::iter::once(whole).chain(groups.map(group)).map(|[of, rows, ids]| [split.clone(), of, rows, ids])
    });
    aligned(["split", "pair_type", "rows", "test_ids"], 2, lines)
}

fn unpaired(lines: &[Unpaired]) -> Option<Table> {
    let line =
        |Unpaired { split, reason, prompts }: &Unpaired| [split.clone(), reason.clone(), count(*prompts)];
    aligned(["split", "without a pair", "prompts"], 2, lines.iter().map(line))
}

fn verdicts(lines: &[Verdicts]) -> Option<Table> {
    let line = |Verdicts { file, positive, negative, unknown, unreadable }: &Verdicts| {
        [file.clone(), count(*positive), count(*negative), count(*unknown), percent(*unreadable)]
    };
    aligned(["verdicts", "positive", "negative", "unreadable", "share of these"], 1, lines.iter().map(line))
}

fn lengths(summary: &data_inspect::Summary) -> Option<Table> {
    let lengths = &summary.lengths;
    let unit = match lengths.unit {
        Unit::Characters => "characters",
        Unit::Tokens => "tokens",
    };
    let parts = [("prompt", lengths.prompt), ("chosen", lengths.chosen), ("rejected", lengths.rejected)];
    let line = |(name, spread): (&str, Option<Spread>)| {
        let Spread { median, p95, max } = spread?;
        let [median, p95, max] = [median, p95, max].map(|length| count(length.into()));
        Some([name.to_owned(), median, p95, max])
    };
    aligned([unit, "median", "p95", "max"], 1, parts.into_iter().filter_map(line))
}

/// A table of `texts` columns of text, then figures to the right; nothing where there are no rows.
fn aligned<const N: usize>(
    names: [&str; N],
    texts: usize,
    rows: impl Iterator<Item = [String; N]>,
) -> Option<Table> {
    let mut table = grid(names);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    (!table.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_judge_pairs_says_stands_in_tables_of_its_own() {
        assert!(unpaired(&[]).is_none() && verdicts(&[]).is_none());
        let [split, reason] = ["train", "all_positive"].map(str::to_owned);
        let shown = unpaired(&[Unpaired { split, reason, prompts: 1_200 }]).unwrap();
        insta::assert_snapshot!(shown.to_string(), @"
        ┌───────┬────────────────┬─────────┐
        │ split ┆ without a pair ┆ prompts │
        ╞═══════╪════════════════╪═════════╡
        │ train ┆ all_positive   ┆   1,200 │
        └───────┴────────────────┴─────────┘
        ");
        let file = "output".to_owned();
        let line = Verdicts { file, positive: 6, negative: 3, unknown: 1, unreadable: 0.1 };
        insta::assert_snapshot!(verdicts(&[line]).unwrap().to_string(), @"
        ┌──────────┬──────────┬──────────┬────────────┬────────────────┐
        │ verdicts ┆ positive ┆ negative ┆ unreadable ┆ share of these │
        ╞══════════╪══════════╪══════════╪════════════╪════════════════╡
        │ output   ┆        6 ┆        3 ┆          1 ┆         10.0 % │
        └──────────┴──────────┴──────────┴────────────┴────────────────┘
        ");
    }
}
