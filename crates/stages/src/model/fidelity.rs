//! How near a written model is to the one that it stands for, and what became of the adapters' change in it.

use collimate_model::Model;
use collimate_run::{Context, Event};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Beyond this share of the change, what is lost in rounding is worth a warning.
const MUCH_OF_THE_CHANGE: f64 = 0.5;

/// What is written, W', beside what was to be written, W + ΔW, where W is the model as it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Weights that were compared.
    pub tensors: u64,
    /// Numbers in them.
    pub parameters: u64,
    /// ‖W' − (W + ΔW)‖ / ‖W + ΔW‖ over all of them.
    pub rounding_rms: f64,
    /// The largest |W' − (W + ΔW)|, as a share of the largest |W + ΔW| of its weight.
    pub rounding_max: f64,
    /// What the adapters change; none where there are no adapters.
    pub change: Option<Change>,
}

/// A change of weights, and what was written of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// ‖ΔW‖ / ‖W‖, over the weights that change.
    pub size: f64,
    /// The share of ΔW that is written: ⟨W' − W, ΔW⟩ / ‖ΔW‖². 1 where all is, 0 where rounding swallowed it.
    pub kept: f64,
    /// What rounding adds in the weights that change, as a share of the change: ‖W' − (W + ΔW)‖ / ‖ΔW‖.
    pub noise: f64,
}

impl Change {
    /// Whether so much of the change is lost or buried that a person should know.
    pub fn suffers(&self) -> bool {
        self.noise > MUCH_OF_THE_CHANGE
    }
}

impl Fidelity {
    /// Reads all weights of the model that was written, of the one that was to be written, and of the one that it was
    /// made from, and compares them.
    ///
    /// Holds three weights at a time. Errors: a weight that is not there, or of another shape; numbers that are not
    /// finite; a failed read.
    pub(super) fn measure(
        base: &Model,
        wanted: &Model,
        written: &Model,
        context: &Context,
    ) -> Result<Self, Error> {
        let weights = wanted.config().weights();
        let (mut all, mut changed, mut rounding_max) = (Sums::default(), Sums::default(), 0.0f64);
        context.report(Event::Started {
            task: "checking what was written",
            total: Some(weights.len() as u64),
            unit: "weights",
        });
        let mut buffers = [Vec::new(), Vec::new(), Vec::new()];
        let [before, exact, after] = &mut buffers;
        for (done, (name, _)) in (1..).zip(&weights) {
            context.check()?;
            let expected = wanted.read(name, exact)?;
            let got = written.read(name, after)?;
            if got != expected {
                let (path, name) = (written.path().to_owned(), name.clone());
                return Err(collimate_model::Error::TensorShape { path, name, expected, got }.into());
            }
            // A head that an adapter brings is no change of anything.
            if base.has(name) {
                base.read(name, before)?;
            } else {
                before.clone_from(exact);
            }
            let sums = Sums::of(before, exact, after);
            sums.check(name)?;
            rounding_max = rounding_max.max(sums.largest_error / sums.largest.max(f64::MIN_POSITIVE));
            if sums.change > 0.0 {
                changed.add(&sums);
            }
            all.add(&sums);
            context.report(Event::Advanced { done, fields: &[] });
        }
        context.report(Event::Finished);
        Ok(Self {
            tensors: weights.len() as u64,
            parameters: all.count,
            rounding_rms: ratio(all.error, all.exact).sqrt(),
            rounding_max,
            change: (changed.count > 0).then(|| Change {
                size: ratio(changed.change, changed.before).sqrt(),
                kept: 1.0 + ratio(changed.along, changed.change),
                noise: ratio(changed.error, changed.change).sqrt(),
            }),
        })
    }
}

/// Sums over weights, in f64.
#[derive(Debug, Default)]
struct Sums {
    count: u64,
    /// ‖W‖².
    before: f64,
    /// ‖W + ΔW‖².
    exact: f64,
    /// ‖ΔW‖².
    change: f64,
    /// ‖W' − (W + ΔW)‖².
    error: f64,
    /// ⟨W' − (W + ΔW), ΔW⟩.
    along: f64,
    largest: f64,
    largest_error: f64,
}

impl Sums {
    fn of(before: &[f32], exact: &[f32], after: &[f32]) -> Self {
        let mut sums = Self { count: exact.len() as u64, ..Self::default() };
        for ((before, exact), after) in before.iter().zip(exact).zip(after) {
            let [before, exact, after] = [before, exact, after].map(|value| f64::from(*value));
            let (change, error) = (exact - before, after - exact);
            sums.before += before * before;
            sums.exact += exact * exact;
            sums.change += change * change;
            sums.error += error * error;
            sums.along += error * change;
            sums.largest = sums.largest.max(exact.abs());
            sums.largest_error = sums.largest_error.max(error.abs());
        }
        sums
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.before += other.before;
        self.exact += other.exact;
        self.change += other.change;
        self.error += other.error;
        self.along += other.along;
    }

    /// Whether all numbers were numbers.
    fn check(&self, name: &str) -> Result<(), Error> {
        let reason = if !self.before.is_finite() {
            "it holds such numbers in the model already"
        } else if !self.exact.is_finite() {
            "an adapter brings such numbers"
        } else if !self.error.is_finite() {
            "they are too large for the type in which they are written"
        } else {
            return Ok(());
        };
        Err(Error::NotFinite { name: name.to_owned(), reason })
    }
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_rounding_swallows_is_not_kept() {
        let sums = Sums::of(&[1.0, 2.0], &[1.25, 2.0], &[1.0, 2.0]);
        assert_eq!((sums.change, sums.error, sums.along), (0.0625, 0.0625, -0.0625));
        assert_eq!(1.0 + ratio(sums.along, sums.change), 0.0);
    }

    #[test]
    fn numbers_that_are_none_are_named() {
        let reasons =
            [[f32::NAN, 1.0, 1.0], [1.0, f32::INFINITY, 1.0], [1.0, 1.0, f32::INFINITY]].map(|[a, b, c]| {
                let refusal = Sums::of(&[a], &[b], &[c]).check("w").unwrap_err();
                refusal.to_string()
            });
        assert_eq!(
            reasons,
            [
                "it holds such numbers in the model already",
                "an adapter brings such numbers",
                "they are too large for the type in which they are written",
            ]
            .map(|reason| format!("`w` would hold numbers that are not finite: {reason}"))
        );
        assert!(Sums::of(&[1.0], &[1.0], &[1.0]).check("w").is_ok());
    }
}
