//! What was measured

use collimate_run::Outcome;
use collimate_stages::eval_accuracy::{likelihood, rewards, verdicts};
use collimate_stages::statistics::McNemar;
use collimate_stages::{eval_accuracy, eval_compare, eval_loss, eval_rewards};
use comfy_table::{ContentArrangement, Table, presets};

use super::{bytes, count, estimate, grid, known, share, some_of, speed, time};
use crate::figures::figure;

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
    known(facts)
}

/// How often each model prefers what people prefer, in all and by groups.
pub fn eval_accuracy(outcome: &Outcome<eval_accuracy::Summary>) -> String {
    match &outcome.summary {
        eval_accuracy::Summary::Likelihood(summary) => answers(summary),
        eval_accuracy::Summary::Rewards(summary) => rewards(summary),
        eval_accuracy::Summary::Verdicts(summary) => judgements(summary),
    }
}

/// Which answers are the likelier.
fn answers(summary: &likelihood::Summary) -> String {
    let with_tuned = summary.all.tuned.is_some();
    let names = ["", "pairs", "base", "base, by token", "tuned", "tuned, by token", "by reward", "margin"];
    let mut shares = grid(&names[..if with_tuned { 8 } else { 4 }]);
    let groups = summary.groups.iter().map(|group| (format!("{} {}", group.by, group.name), &group.figures));
    for (name, figures) in std::iter::once(("all".to_owned(), &summary.all)).chain(groups) {
        let accuracy =
            |accuracy: &likelihood::Accuracy| [share(&accuracy.sum), share(&accuracy.length_normalised)];
        let mut row = vec![name, count(figures.pairs)];
        row.extend(accuracy(&figures.base));
        if let Some(tuned) = &figures.tuned {
            row.extend(accuracy(&tuned.accuracy));
            row.extend([share(&tuned.reward_accuracy), figure(tuned.reward_margin.value)]);
        }
        shares.add_row(row);
    }
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
    let facts = known(facts);
    format!("{shares}\n\n{facts}")
}

/// Which answers have the higher reward.
fn rewards(summary: &rewards::Summary) -> String {
    let mut shares = grid(["", "model", "pairs", "accuracy", "margin"]);
    let groups = summary.groups.iter().map(|group| (format!("{} {}", group.by, group.name), &group.figures));
    for (name, figures) in std::iter::once(("all".to_owned(), &summary.all)).chain(groups) {
        for (model, found) in [("base", &figures.base), ("tuned", &figures.tuned)] {
            if let Some(rewards::Accuracy { accuracy, margin }) = found {
                let shown = [share(accuracy), estimate(margin)];
                shares
                    .add_row([name.clone(), model.to_owned(), count(figures.pairs)].into_iter().chain(shown));
            }
        }
    }
    let facts = [
        ("right", summary.all.test.as_ref().map(test)),
        ("rows cut to max_length", some_of(summary.truncated)),
        ("rows that say nothing", some_of(summary.skipped)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("time of the models", Some(time(summary.seconds))),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    let facts = known(facts);
    format!("{shares}\n\n{facts}")
}

/// Which answers are named.
fn judgements(summary: &verdicts::Summary) -> String {
    let columns = ["", "model", "pairs", "accuracy", "as the prompt stands", "where consistent"];
    let mut shares = grid(columns.into_iter().chain(["consistent", "first answer named", "unreadable"]));
    let groups = summary.groups.iter().map(|group| (format!("{} {}", group.by, group.name), &group.figures));
    for (name, figures) in std::iter::once(("all".to_owned(), &summary.all)).chain(groups) {
        let tuned = figures.tuned.as_ref().map(|tuned| ("tuned", &tuned.accuracy));
        for (model, found) in [("base", &figures.base)].into_iter().chain(tuned) {
            let accuracies = [&found.accuracy, &found.first_order_accuracy, &found.consistent_accuracy];
            let others = [&found.consistency, &found.first_named, &found.unreadable];
            let shown = accuracies.into_iter().chain(others).map(share);
            shares.add_row([name.clone(), model.to_owned(), count(figures.pairs)].into_iter().chain(shown));
        }
    }
    let tuned = summary.all.tuned.as_ref();
    let facts = [
        ("right in both orders", tuned.map(|tuned| test(&tuned.both_orders_test))),
        ("right as the prompt stands", tuned.map(|tuned| test(&tuned.first_order_test))),
        ("judgements that reached max_new_tokens", some_of(summary.cut_off)),
        ("tokens", speed(&summary.effort)),
        ("time of log-probs", Some(summary.seconds).filter(|&seconds| seconds > 0.0).map(time)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    let facts = known(facts);
    format!("{shares}\n\n{facts}")
}

fn test(McNemar { first_only, second_only, p_value }: &McNemar) -> String {
    format!("{first_only} by base alone, {second_only} by tuned alone, p = {}", figure(*p_value))
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
    text + &known(facts)
}

/// What the completions of a file are worth, by each reward and in all.
pub fn eval_rewards(outcome: &Outcome<eval_rewards::Summary>) -> String {
    let summary = &outcome.summary;
    let mut rewards = grid(["", "mean", "std", "min", "max"]);
    for figures in summary.rewards.iter().chain([&summary.reward]) {
        let others = [figures.std, figures.min, figures.max].map(figure);
        rewards.add_row([figures.name.clone(), estimate(&figures.mean)].into_iter().chain(others));
    }
    let facts = [
        ("prompts", Some(count(summary.prompts))),
        ("completions", Some(count(summary.completions))),
        ("pairs whose chosen answer has more", summary.chosen_higher.as_ref().map(share)),
        ("bad rows, set aside", some_of(summary.rejected)),
        ("time of the rewards", Some(time(summary.seconds))),
        ("peak memory", summary.peak_memory_bytes.map(bytes)),
    ];
    let facts = known(facts);
    format!("{rewards}\n\n{facts}")
}
