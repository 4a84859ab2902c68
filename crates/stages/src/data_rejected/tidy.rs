//! An answer without what does not belong to it: the prompt's echo, code fences, white space around it.

/// What opens and closes a block of code in Markdown.
const FENCE: &str = "```";

/// A tidied answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tidied {
    pub text: String,
    /// Whether it began with the prompt.
    pub echo: bool,
    /// Whether it had code fences.
    pub fences: bool,
}

/// Leaves out the echo of the prompt and the fences around code; the code stays.
pub(super) fn tidy(answer: &str, prompt: &str) -> Tidied {
    let trimmed = answer.trim();
    let after = trimmed.strip_prefix(prompt.trim()).filter(|_| !prompt.trim().is_empty());
    let text = after.unwrap_or(trimmed);
    let fences = text.contains(FENCE);
    let lines = text.lines().filter(|line| !is_fence(line)).map(|line| line.replace(FENCE, ""));
    let text = if fences { lines.collect::<Vec<_>>().join("\n") } else { text.to_owned() };
    Tidied { text: text.trim().to_owned(), echo: after.is_some(), fences }
}

/// Whether a line only opens or closes a block, with or without the name of a language.
fn is_fence(line: &str) -> bool {
    let language = line.trim().strip_prefix(FENCE);
    language.is_some_and(|language| {
        !language.contains(|character: char| character.is_whitespace() || character == '`')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: &str) -> String {
        tidy(answer, "### Response:\n").text
    }

    #[test]
    fn the_echo_goes() {
        let tidied = tidy(" ### Response:\n\nBoil it.\n", "### Response:\n");
        assert_eq!(tidied, Tidied { text: "Boil it.".to_owned(), echo: true, fences: false });
        assert!(!tidy("Boil it. ### Response:", "### Response:\n").echo);
        assert!(!tidy("Boil it.", " ").echo);
    }

    #[test]
    fn fences_go_and_code_stays() {
        let tidied = tidy("```python\nprint(1)\n\nprint(2)\n```", "");
        assert_eq!(tidied, Tidied { text: "print(1)\n\nprint(2)".to_owned(), echo: false, fences: true });
        assert_eq!(text("Take this:\n```\nx = 1"), "Take this:\nx = 1");
        assert_eq!(text("Take ```x = 1``` or `y`."), "Take x = 1 or `y`.");
        assert_eq!(text("``` print(1) ```"), "print(1)");
        assert_eq!(text("```rust\n```\n"), "");
    }
}
