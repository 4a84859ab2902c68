//! Results as a person reads them: one function per command.

use collimate_run::Outcome;
use collimate_stages::statistics::{Estimate, McNemar};
use collimate_stages::{
    Effort, data_clean, data_rejected, data_sft, demo, eval_accuracy, eval_compare, eval_loss, generate,
    train,
};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{FormattedDuration, HumanBytes, HumanCount};

use crate::figures::figure;

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
    table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// What training did to the loss, and what it cost.
pub fn train(outcome: &Outcome<train::Summary>) -> String {
    let summary = &outcome.summary;
    let best = summary.best_step.zip(summary.best_eval_loss);
    let best = best.map(|(step, loss)| format!("{} at step {}", figure(loss), HumanCount(step)));
    let stopped = if summary.stopped_early { ", stopped early" } else { "" };
    let facts = [
        ("steps", Some(format!("{}{stopped}", HumanCount(summary.steps)))),
        ("passes over the data", Some(figure(summary.epochs))),
        ("parameters trained", Some(count(summary.trainable_parameters))),
        ("mean training loss", Some(figure(summary.train_loss))),
        ("validation loss before", summary.eval_loss_before.map(figure)),
        ("validation loss after", summary.eval_loss_after.map(figure)),
        ("lowest validation loss", best),
        ("validation pairs told apart", summary.eval_accuracy.map(percent)),
        ("validation margin", summary.eval_margin.map(figure)),
        ("rows cut to max_length", some_of(summary.truncated)),
        ("rows that teach nothing", some_of(summary.skipped)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("time of the reference model", summary.reference_seconds.map(time)),
        ("time in steps", Some(time(summary.seconds))),
        ("tokens a second", Some(figure(summary.tokens_per_second))),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// The figures of a model on a file.
pub fn eval_loss(outcome: &Outcome<eval_loss::Summary>) -> String {
    let summary = &outcome.summary;
    let facts = [
        ("loss", Some(estimate(&summary.loss))),
        ("perplexity", Some(estimate(&summary.perplexity))),
        ("token accuracy", Some(estimate(&summary.mean_token_accuracy))),
        ("entropy", Some(figure(summary.entropy))),
        ("sequences", Some(count(summary.sequences))),
        ("tokens measured", Some(count(summary.trained_tokens))),
        ("rows cut to max_length", some_of(summary.truncated)),
        ("rows with nothing to measure", some_of(summary.skipped)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("time", Some(time(summary.seconds))),
        ("tokens a second", Some(figure(summary.tokens_per_second))),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// How often each model prefers what people prefer, in all and by groups.
pub fn eval_accuracy(outcome: &Outcome<eval_accuracy::Summary>) -> String {
    let summary = &outcome.summary;
    let mut shares = Table::new();
    shares.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    let with_tuned = summary.all.tuned.is_some();
    let names = ["", "pairs", "base", "base, by token", "tuned", "tuned, by token", "by reward", "margin"];
    shares.set_header(&names[..if with_tuned { 8 } else { 4 }]);
    let groups = summary.groups.iter().map(|group| (format!("{} {}", group.by, group.name), &group.figures));
    for (name, figures) in std::iter::once(("all".to_owned(), &summary.all)).chain(groups) {
        let accuracy =
            |accuracy: &eval_accuracy::Accuracy| [share(&accuracy.sum), share(&accuracy.length_normalised)];
        let mut row = vec![name, count(figures.pairs)];
        row.extend(accuracy(&figures.base));
        if let Some(tuned) = &figures.tuned {
            row.extend(accuracy(&tuned.accuracy));
            row.extend([share(&tuned.reward_accuracy), figure(tuned.reward_margin.value)]);
        }
        shares.add_row(row);
    }
    let test = |test: &McNemar| {
        let McNemar { first_only, second_only, p_value } = test;
        format!("{first_only} by base alone, {second_only} by tuned alone, p = {}", figure(*p_value))
    };
    let facts = [
        ("margin of the rewards", summary.all.tuned.as_ref().map(|tuned| estimate(&tuned.reward_margin))),
        ("right by the sum", summary.all.tuned.as_ref().map(|tuned| test(&tuned.sum_test))),
        ("right by token", summary.all.tuned.as_ref().map(|tuned| test(&tuned.length_normalised_test))),
        ("rows cut to max_length", some_of(summary.truncated)),
        ("rows that say nothing", some_of(summary.skipped)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("time of the models", Some(time(summary.seconds))),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    let facts = table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))));
    format!("{shares}\n\n{facts}")
}

/// The answers of base and tuned model side by side, prompt by prompt.
pub fn eval_compare(outcome: &Outcome<eval_compare::Summary>) -> String {
    let summary = &outcome.summary;
    let mut text = String::new();
    for row in &summary.rows {
        let mut answers = Table::new();
        answers.load_style(presets::UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
        let columns = [Some(("base", &row.base)), row.tuned.as_ref().map(|tuned| ("tuned", tuned))];
        let columns: Vec<_> = columns.into_iter().flatten().collect();
        answers.set_header(columns.iter().map(|(name, _)| *name));
        answers.add_row(columns.iter().map(|(_, answer)| answer.text.trim()));
        text += &format!("{}\n{answers}\n\n", row.prompt.trim());
    }
    let facts = [
        ("tokens, base", speed(&summary.base)),
        ("tokens, tuned", summary.tuned.as_ref().and_then(speed)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    text + &table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// Some samples to read, and what writing them took.
pub fn generate(outcome: &Outcome<generate::Summary>) -> String {
    let summary = &outcome.summary;
    let example = |generate::Example { prompt, r#gen }: &generate::Example| {
        let mut box_of_text = Table::new();
        box_of_text.load_style(presets::UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
        box_of_text.add_row([r#gen.trim()]);
        format!("{}\n{box_of_text}\n\n", prompt.trim())
    };
    let facts = [
        ("prompts answered", Some(count(summary.prompts))),
        ("samples", Some(count(summary.samples))),
        ("samples that reached max_new_tokens", some_of(summary.cut_off)),
        ("tokens", speed(&summary.effort)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    let facts = table(facts.into_iter().filter_map(|(name, value)| Some((name, value?))));
    summary.examples.iter().map(example).collect::<String>() + &facts
}

/// What the demo's training changed on the validation split, what it cost, and where everything stands.
pub fn demo(summary: &demo::Summary) -> String {
    let demo::Summary { before, after, training, made, .. } = summary;
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
