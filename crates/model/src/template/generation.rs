//! The `{% generation %}` blocks with which Hugging Face templates mark what the assistant says.

use std::borrow::Cow;
use std::sync::LazyLock;

use fancy_regex::{Captures, Regex};

static TAG: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\{%([-+]?)(\s*)(end)?generation(\s*)([-+]?)%\}").ok());

/// Whether there are such blocks.
pub(super) fn marks(source: &str) -> bool {
    TAG.as_ref().is_some_and(|tag| tag.is_match(source).unwrap_or(false))
}

/// Rewrites the blocks into `{% with %}`, which has the same scope and prints its body unchanged.
///
/// Lines stay where they were, so that messages about errors name the right ones.
pub(super) fn unmark(source: &str) -> Cow<'_, str> {
    let Some(tag) = TAG.as_ref() else { return Cow::Borrowed(source) };
    tag.replace_all(source, |found: &Captures<'_>| {
        let part = |index| found.get(index).map_or("", |part| part.as_str());
        format!("{{%{}{} {}with {}{}%}}", part(1), part(2), part(3), part(4), part(5))
    })
}

#[cfg(test)]
mod tests {
    use super::unmark;

    #[test]
    fn marks_become_scopes_and_keep_their_trimming_and_lines() {
        assert_eq!(unmark("a{%- generation %}b\n{%endgeneration -%}"), "a{%-  with  %}b\n{% endwith  -%}");
        assert_eq!(unmark("{% set generation = 1 %}"), "{% set generation = 1 %}");
        assert_eq!(unmark("{%\n generation\n%}").lines().count(), 3);
    }
}
