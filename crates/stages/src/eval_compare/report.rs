//! A comparison as Markdown.

use collimate_generate::FinishReason;

use super::{Answer, Row};

/// The fewest backticks that fence a text.
const SHORTEST_FENCE: usize = 3;

/// How many tokens each side wrote, then each prompt with its answers.
pub(super) fn markdown(rows: &[Row]) -> String {
    let base = rows.iter().map(|row| row.base.tokens).sum::<u64>();
    let tuned = rows.iter().map(|row| Some(row.tuned.as_ref()?.tokens)).sum::<Option<u64>>();
    let lines = [("base", Some(base)), ("tuned", tuned)];
    let lines = lines.into_iter().filter_map(|(name, tokens)| Some(format!("| {name} | {} |\n", tokens?)));
    let table = "| model | tokens |\n| --- | ---: |\n";
    let mut text = format!("# Answers side by side\n\n{table}{}", lines.collect::<String>());
    for (number, row) in (1..).zip(rows) {
        text.push_str(&section(number, row));
    }
    text
}

fn section(number: usize, row: &Row) -> String {
    let answers = [("Base", Some(&row.base)), ("Tuned", row.tuned.as_ref())];
    let answers = answers.into_iter().filter_map(|(name, answer)| Some(self::answer(name, answer?)));
    let prompt = fenced(&row.prompt);
    format!("\n## Prompt {number} ({})\n\n{prompt}{}", row.prompt_format, answers.collect::<String>())
}

fn answer(name: &str, Answer { text, tokens, finish_reason }: &Answer) -> String {
    let end = match finish_reason {
        FinishReason::Stop => "",
        FinishReason::Length => ", cut off",
        FinishReason::ContentFilter => ", held back",
    };
    format!("\n### {name}: {tokens} tokens{end}\n\n{}", fenced(text))
}

/// The text to the letter, within a fence longer than any in it.
fn fenced(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(SHORTEST_FENCE.max(longest + 1));
    format!("{fence}text\n{text}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_those_within() {
        assert_eq!(fenced("a"), "```text\na\n```\n");
        assert_eq!(fenced("````rust\n`x`\n````"), "`````text\n````rust\n`x`\n````\n`````\n");
    }
}
