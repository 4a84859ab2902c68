//! Numbers, times and names as people read them.

use bytesize::ByteSize;
use chrono::DateTime;
use serde_json::{Number, Value};

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The digits that matter: `1.235`, `47.3`, `1,421`, `2.5 × 10⁻⁴`; a true minus sign.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => return "0".to_owned(),
        _ if !size.is_finite() => return if value.is_nan() { "not a number" } else { "infinite" }.to_owned(),
        _ if !(1e-3..1e12).contains(&size) => power(size),
        _ if size >= 999.5 => count(size.round() as u64),
        _ => {
            let decimals = (3 - size.log10().floor() as i32).clamp(1, 4) as usize;
            // A whole number is shown as one; of others all digits, so that those below each other end alike.
            let decimals = if size.fract() == 0.0 { 0 } else { decimals };
            format!("{size:.decimals$}")
        }
    };
    if value < 0.0 { format!("−{text}") } else { text }
}

/// `61.4 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `654.4 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    ByteSize(number).display().iec().to_string()
}

/// `0.2 s`, `47 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 0.05 => "under 0.1 s".to_owned(),
        0..=9 => format!("{seconds:.1} s"),
        10..=59 => format!("{whole} s"),
        60..=3599 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", count(whole / 3600), whole % 3600 / 60),
    }
}

/// `24 November 2026, 15:09 UTC` for the time of a manifest; what is none of that form stays as it is.
pub(crate) fn date(text: &str) -> String {
    DateTime::parse_from_rfc3339(text)
        .map_or_else(|_| text.to_owned(), |time| time.to_utc().format("%-d %B %Y, %H:%M UTC").to_string())
}

/// A field's name in words: `cut_off` is `cut off`, `peak_memory_bytes` is `peak memory`.
pub(crate) fn words(name: &str) -> String {
    let name = ["_bytes", "_seconds"].iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name);
    let name = if name == "seconds" { "time" } else { name };
    name.replace("positive2unknown", "positive over unknown")
        .replace("preamble2unknown", "preamble over unknown")
        .replace('_', " ")
}

/// The words with a capital at their head.
pub(crate) fn title(name: &str) -> String {
    let words = words(name);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A value with the unit that its name promises; nothing for what is no single value.
pub(crate) fn value(name: &str, value: &Value) -> Option<String> {
    Some(match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => amount(name, number),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(|item| self::value(name, item)).collect();
            items.filter(|items| !items.is_empty())?.join(", ")
        }
        Value::Null | Value::Object(_) => return None,
    })
}

/// A number with the unit that its name promises.
fn amount(name: &str, number: &Number) -> String {
    let real = number.as_f64().unwrap_or(f64::NAN);
    match number.as_u64() {
        Some(whole) if name.ends_with("_bytes") => bytes(whole),
        _ if name == "seconds" || name.ends_with("_seconds") => duration(real),
        // What is whole was counted, whatever its name.
        Some(whole) => count(whole),
        _ if is_share(name) && (0.0..=1.0).contains(&real) => percent(real),
        None => figure(real),
    }
}

/// Whether a figure of this name is a part of one.
pub(crate) fn is_share(name: &str) -> bool {
    const PARTS: [&str; 9] = [
        "accuracy",
        "accuracies",
        "share",
        "consistency",
        "unreadable",
        "first_named",
        "chosen_first",
        "chosen_longer",
        "clipped_ratio",
    ];
    PARTS.iter().any(|part| name.contains(part))
}

/// `2.5 × 10⁻⁴`.
fn power(size: f64) -> String {
    let written = format!("{size:.2e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let raised = exponent.chars().map(|digit| match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    });
    format!("{} × 10{}", trimmed(mantissa), raised.collect::<String>())
}

/// A figure on an axis, without the zeros that end its decimal fraction.
pub(crate) fn tick(value: f64) -> String {
    trimmed(&figure(value))
}

/// Without the zeros that end a decimal fraction.
fn trimmed(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_have_the_digits_that_matter() {
        let found = [0.0, 1.23456, 6.8, 0.61418, 47.26, 421.38, -1421.3, 2.5e-4, 1e-16, 7.0, 999.7, f64::NAN];
        let expected = [
            "0",
            "1.235",
            "6.800",
            "0.6142",
            "47.26",
            "421.4",
            "−1,421",
            "2.5 × 10⁻⁴",
            "1 × 10⁻¹⁶",
            "7",
            "1,000",
            "not a number",
        ];
        assert_eq!(found.map(figure), expected);
        assert_eq!([0.2, 20.0, 1200.0, -0.5].map(tick), ["0.2", "20", "1,200", "−0.5"]);
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_and_sizes_have_their_units() {
        let found = [0.01, 0.25, 9.6, 59.7, 200.0, 7500.0].map(duration);
        assert_eq!(found, ["under 0.1 s", "0.2 s", "10 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]);
        assert_eq!(bytes(686_201_241), "654.4 MiB");
        assert_eq!(date("2026-11-04T05:09:07Z"), "4 November 2026, 05:09 UTC");
        assert_eq!(date("yesterday"), "yesterday");
    }

    #[test]
    fn a_value_has_the_unit_of_its_name() {
        let shown = |name: &str, json| value(name, &json).unwrap_or_default();
        assert_eq!(shown("eval_accuracy", json!(0.5)), "50.0 %");
        assert_eq!(shown("eval_accuracy", json!(12)), "12");
        assert_eq!(shown("peak_memory_bytes", json!(1024)), "1.0 KiB");
        assert_eq!(shown("reference_seconds", json!(75)), "1 min 15 s");
        assert_eq!(shown("lora_target_modules", json!(["q", "v"])), "q, v");
        assert_eq!(shown("rows", json!([{}])), "");
        assert_eq!(title("peak_memory_bytes"), "Peak memory");
        assert_eq!(title(""), "");
    }
}
