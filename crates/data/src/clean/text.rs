//! Tidying one text.

use unicode_normalization::UnicodeNormalization;

/// What an input says, in letters and digits alone, when there is none.
const NO_INPUT: &[&str] = &[
    "noinput",
    "noinputs",
    "noinpute",
    "noinputrequired",
    "noinputneeded",
    "noinputnecessary",
    "noinputprovided",
    "noinputgiven",
    "noinputisrequired",
    "noinputisneeded",
    "noinputisnecessary",
    "inputnotrequired",
    "inputnotneeded",
    "notapplicable",
    "none",
    "无",
    "无输入",
    "没有输入",
    "无需输入",
    "不需要输入",
];

/// Unicode NFC, without white space at the ends.
pub(super) fn tidy(text: &str) -> String {
    text.trim().nfc().collect()
}

/// As [`tidy`]; a text that only says "no input" becomes empty, and then true is returned with it.
pub(super) fn tidy_input(text: &str) -> (String, bool) {
    let text = tidy(text);
    if says_no_input(&text) { (String::new(), true) } else { (text, false) }
}

/// Whether `<noinput>`, `No input.`, `(no input)`, `N/A` and their like are all that the text says.
fn says_no_input(text: &str) -> bool {
    // No spelling is longer; texts of many megabytes need no look at every character.
    if text.is_empty() || text.len() > 64 {
        return false;
    }
    let bare: String =
        text.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    // Without its slash `NA` may be sodium.
    let not_applicable = bare == "na" && text.contains('/');
    not_applicable || NO_INPUT.contains(&bare.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_no_input_become_empty() {
        for text in [
            "<noinput>",
            "Noinput",
            "No input",
            "< noinput >",
            "N/A",
            "<n/a>",
            "\"<No input>\"",
            "`<noinput>`",
            "\\<noinput\\>",
            "No input required.",
            "(no input)",
            "<noinput>,",
            "[noinput]",
            "<no_input>",
            "None",
            "无输入",
            "{\\noinput}",
        ] {
            assert_eq!(tidy_input(text), (String::new(), true), "{text}");
        }
    }

    #[test]
    fn inputs_that_say_something_stay() {
        for text in [
            "Na",
            "NA",
            "nothing to lose",
            "no",
            "null",
            "dog : puppy :: cat : <noinput>",
            "<noinput> 8",
            "+",
        ] {
            assert_eq!(tidy_input(text), (text.to_owned(), false));
        }
        assert_eq!(tidy_input("  "), (String::new(), false));
    }
}
