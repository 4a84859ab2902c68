//! Figures as people read them.

use indicatif::{HumanBytes, HumanCount};

/// `loss 1.2346, learning rate 2.00e-4, 421 tokens/s`.
pub fn sentence(fields: &[(&str, f64)]) -> String {
    let phrases: Vec<String> = fields.iter().map(|(name, value)| phrase(name, *value)).collect();
    phrases.join(", ")
}

/// How many of a unit: `5,000 steps`, `1.20 MiB`.
pub fn amount(count: u64, unit: &str) -> String {
    match unit {
        "bytes" => HumanBytes(count).to_string(),
        _ => format!("{} {unit}", HumanCount(count)),
    }
}

/// `120 of 5,000 steps`, or only how many were done where the whole is not known.
pub fn done_of(done: u64, total: Option<u64>, unit: &str) -> String {
    match (total, unit) {
        (None, _) => amount(done, unit),
        (Some(total), "bytes") => format!("{} of {}", HumanBytes(done), HumanBytes(total)),
        (Some(total), _) => format!("{} of {}", HumanCount(done), amount(total, unit)),
    }
}

fn phrase(name: &str, value: f64) -> String {
    match name.strip_suffix("_per_second") {
        Some(unit) => format!("{} {unit}/s", figure(value)),
        None => format!("{} {}", name.replace('_', " "), figure(value)),
    }
}

/// A number with the digits that matter: `1.2346`, `47.3`, `1,421`, `2.00e-4`.
pub fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        // Infinite ones and NaN too, which are written as such.
        size if !(1e-3..1e15).contains(&size) => format!("{value:.2e}"),
        size if size < 10.0 => format!("{value:.4}"),
        size if size < 100.0 => format!("{value:.1}"),
        size => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", HumanCount(size.round() as u64))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_matter() {
        let fields = [("loss", 1.23456), ("learning_rate", 2e-4), ("tokens_per_second", 1421.3)];
        assert_eq!(sentence(&fields), "loss 1.2346, learning rate 2.00e-4, 1,421 tokens/s");
        assert_eq!(sentence(&[("margin", -0.5), ("loss", f64::NAN)]), "margin -0.5000, loss NaN");
        assert_eq!(
            sentence(&[("a", 0.0), ("b", 47.26), ("c", -1234.5), ("d", f64::INFINITY)]),
            "a 0, b 47.3, c -1,235, d inf"
        );
    }

    #[test]
    fn amounts_have_their_unit() {
        assert_eq!(done_of(120, Some(5000), "steps"), "120 of 5,000 steps");
        assert_eq!(done_of(1200, None, "rows"), "1,200 rows");
        assert_eq!(done_of(1 << 20, Some(3 << 20), "bytes"), "1.00 MiB of 3.00 MiB");
    }
}
