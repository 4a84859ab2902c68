//! `numeric`: 1 if the final answer is the row's `answer` as a number, exactly.

use num_rational::BigRational;

use super::answer::{expected, final_answer};
use super::{Mark, one_if};

/// The longest text that is read as a number, in bytes.
const LONGEST: usize = 1_000;

/// What TeX writes around and between digits, and what it stands for.
const TEX: [(&str, &str); 10] = [
    ("\\$", "$"),
    ("\\%", "%"),
    ("{,}", ","),
    ("\\!", ""),
    ("\\,", ""),
    ("\\left", ""),
    ("\\right", ""),
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\u{2212}", "-"),
];

pub(super) fn open(_argument: &str) -> Result<Mark, String> {
    Ok(Box::new(|item| {
        let expected = expected(item)?;
        let number = Number::read(&expected)
            .ok_or_else(|| format!("its answer {expected:?} is not a number that can be compared"))?;
        let found = final_answer(item.completion).and_then(Number::read);
        Ok(one_if(found.is_some_and(|found| found.is(&number))))
    }))
}

/// A number as it is written.
struct Number {
    value: BigRational,
    /// Whether a percent sign stands behind it.
    percent: bool,
}

impl Number {
    /// Reads a whole, decimal or broken number: with a sign, with commas between thousands, with a sign of a currency
    /// before or behind it, with a percent sign; in TeX's words too. Anything else is none.
    fn read(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut text = text.to_owned();
        for (written, meant) in TEX {
            text = text.replace(written, meant);
        }
        let math = |text: &str| Some(text.strip_prefix('$')?.strip_suffix('$')?.to_owned());
        let text = math(&text).unwrap_or(text);
        let (text, percent) = match text.trim().strip_suffix('%') {
            Some(rest) => (rest.trim_end(), true),
            None => (text.trim(), false),
        };
        let (text, negative) = sign(text);
        let text = text.trim_matches(|letter: char| is_currency(letter) || letter.is_whitespace());
        // "$-3", with the sign behind that of the currency.
        let (text, negative) = if negative { (text, true) } else { sign(text) };
        let value = fraction(text)?;
        Some(Self { value: if negative { -value } else { value }, percent })
    }

    /// Whether both are the same. A percent sign that one of the two lacks may be a unit, or mean a hundredth.
    fn is(&self, other: &Self) -> bool {
        let hundred = || BigRational::from_integer(100.into());
        self.value == other.value
            || match (self.percent, other.percent) {
                (true, false) => self.value == &other.value * hundred(),
                (false, true) => &self.value * hundred() == other.value,
                _ => false,
            }
    }
}

fn sign(text: &str) -> (&str, bool) {
    match text.strip_prefix('-') {
        Some(rest) => (rest.trim_start(), true),
        None => (text.strip_prefix('+').unwrap_or(text).trim_start(), false),
    }
}

fn is_currency(letter: char) -> bool {
    matches!(letter, '$' | '€' | '£' | '¥')
}

/// `a`, `a/b` or `\frac{a}{b}`, without signs.
fn fraction(text: &str) -> Option<BigRational> {
    let parts = match text.strip_prefix("\\frac") {
        Some(rest) => {
            let (above, rest) = argument(rest)?;
            let (below, rest) = argument(rest)?;
            rest.is_empty().then_some((above, below))?
        }
        None => match text.split_once('/') {
            Some(parts) => parts,
            None => return decimal(text),
        },
    };
    let [above, below] = [decimal(parts.0.trim())?, decimal(parts.1.trim())?];
    (*below.numer() != 0.into()).then(|| above / below)
}

/// What a command of TeX takes next, in braces or as one sign, and what follows it.
fn argument(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    match text.strip_prefix('{') {
        Some(rest) => rest.split_once('}'),
        None => text.split_at_checked(1),
    }
}

/// Digits, with a point or without, and with commas between all thousands or none.
fn decimal(text: &str) -> Option<BigRational> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let grouped = groups.clone().next().is_some();
    let well_grouped = groups.all(|group| group.len() == 3) && (1..=3).contains(&first.len());
    let digits = whole.replace(',', "") + decimals;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || grouped && !well_grouped {
        return None;
    }
    let scale = "1".to_owned() + &"0".repeat(decimals.len());
    Some(BigRational::new(digits.parse().ok()?, scale.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        Number::read(a).unwrap().is(&Number::read(b).unwrap())
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        for group in [
            &[
                "1000", "1,000", "1000.0", "1,000.00", "$1,000", "1000.", "+1000", "1{,}000", "€1000",
                "1000 £",
            ][..],
            &["18", "$18.00", "\\$18", "$18$", "36/2", "18%", "\\frac{36}{2}", " 18 "],
            &["-3", "\u{2212}3", "- 3", "-$3", "$-3", "-3.0", "-6/2", "-\\dfrac{6}{2}"],
            &[
                "1/2",
                "0.5",
                ".5",
                "50%",
                "\\tfrac{1}{2}",
                "2 / 4",
                "50\\%",
                "\\frac12",
                "\\frac1{2}",
                "\\frac 24",
            ],
            &["123456789012345678901234567890.1", "123,456,789,012,345,678,901,234,567,890.10"],
            &["0", "-0", "0.000"],
        ] {
            for (a, b) in group.iter().flat_map(|a| group.iter().map(move |b| (a, b))) {
                assert!(same(a, b), "{a} {b}");
            }
        }
    }

    #[test]
    fn numbers_that_differ_in_the_last_digit_differ() {
        for (a, b) in [
            ("0.1", "0.10000000000000000000001"),
            ("1/3", "0.3333333333333333"),
            ("9007199254740993", "9007199254740992"),
            ("3", "-3"),
            ("50%", "0.5%"),
            ("1,000", "1.000"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            "-",
            "$",
            "%",
            ".",
            "1,00",
            "1,0000",
            "10,00,000",
            ",100",
            "1.2.3",
            "1/0",
            "1/0.0",
            "1/2/3",
            "18 dollars",
            "x=3",
            "2\\pi",
            "\\sqrt{2}",
            "1e3",
            "--3",
            "--",
            "NaN",
            "inf",
            "٣",
            "\\frac{1}{2}}{3}",
            "\\frac123",
            "\\frac1",
            "\\frac½2",
            "1 000",
            "½",
        ] {
            assert!(Number::read(text).is_none(), "{text}");
        }
        assert!(Number::read(&"9".repeat(LONGEST + 1)).is_none());
    }
}
