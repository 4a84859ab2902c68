//! A figure with its 95 % interval, as evaluations write it.

use serde::Deserialize;
use serde_json::Value;

use crate::numbers::{figure, percent};

/// A figure of a sample, and the interval that holds the true one for 95 of 100 samples.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower and upper end, where the sample tells.
    pub interval: Option<[f64; 2]>,
}

impl Estimate {
    /// Reads one; nothing where the value is another.
    pub fn read(value: &Value) -> Option<Self> {
        // A share without an interval is no estimate: the field is there, if only with null.
        value.get("interval")?;
        Self::deserialize(value).ok()
    }

    /// `61.4 %` for a share, `1.576` for another figure.
    pub fn figure(&self, is_share: bool) -> String {
        if is_share { percent(self.value) } else { figure(self.value) }
    }

    /// `56.7 to 66.1`, without the sign of percent.
    pub fn ends(&self, is_share: bool) -> Option<String> {
        let end = |value: f64| if is_share { format!("{:.1}", 100.0 * value) } else { figure(value) };
        self.interval.map(|[low, high]| format!("{} to {}", end(low), end(high)))
    }

    /// `61.4 % (56.7 to 66.1)`.
    pub fn shown(&self, is_share: bool) -> String {
        match self.ends(is_share) {
            Some(ends) => format!("{} ({ends})", self.figure(is_share)),
            None => self.figure(is_share),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_value_with_an_interval_is_one() {
        let found = Estimate::read(&json!({ "value": 0.5, "interval": [0.25, 0.75] })).unwrap();
        assert_eq!(found.shown(true), "50.0 % (25.0 to 75.0)");
        assert_eq!(found.shown(false), "0.5000 (0.2500 to 0.7500)");
        let alone = Estimate::read(&json!({ "value": 2, "interval": null })).unwrap();
        assert_eq!(alone.shown(false), "2");
        for other in [json!({ "value": 1 }), json!(3), json!({ "value": "x", "interval": null }), json!(null)]
        {
            assert_eq!(Estimate::read(&other), None);
        }
    }
}
