//! Regular expressions that are part of the program.

use regex::Regex;

/// The regular expression `source`, which is written in the program and never comes from outside.
#[expect(clippy::expect_used, reason = "every caller's pattern is a constant that its tests compile")]
pub(crate) fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("a constant of the program")
}
