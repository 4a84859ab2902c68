//! The learning rate of each step.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::str::FromStr;

/// How the learning rate runs over training; the names are those of transformers' `SchedulerType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Warm-up, then straight down to 0 at the last step.
    Linear,
    /// Warm-up, then half a cosine down to 0 at the last step.
    Cosine,
    /// The same from the first step to the last; warm-up is ignored, as in transformers.
    Constant,
    /// Warm-up, then the same to the last step.
    ConstantWithWarmup,
}

impl ScheduleKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Linear, Self::Cosine, Self::Constant, Self::ConstantWithWarmup];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::Constant => "constant",
            Self::ConstantWithWarmup => "constant_with_warmup",
        }
    }
}

impl std::fmt::Display for ScheduleKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for ScheduleKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let nearest = Self::ALL
                .map(Self::name)
                .into_iter()
                .max_by(|a, b| strsim::jaro_winkler(text, a).total_cmp(&strsim::jaro_winkler(text, b)));
            format!("no schedule of this name; the nearest is {}", nearest.unwrap_or_default())
        })
    }
}

/// The learning rate as a function of the step, as transformers' `get_scheduler` gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// How it runs.
    pub kind: ScheduleKind,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps over which it rises from 0.
    pub warmup_steps: u64,
    /// Steps in the whole training.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate with which the step is taken, the first step being 0.
    pub fn at(&self, step: u64) -> f64 {
        self.learning_rate * self.factor(step)
    }

    fn factor(&self, step: u64) -> f64 {
        if self.kind == ScheduleKind::Constant {
            return 1.0;
        }
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let falling = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        match self.kind {
            ScheduleKind::Linear => self.total_steps.saturating_sub(step) as f64 / falling,
            ScheduleKind::Cosine => {
                let progress = (step - self.warmup_steps) as f64 / falling;
                (0.5 * (1.0 + (PI * progress).cos())).max(0.0)
            }
            ScheduleKind::Constant | ScheduleKind::ConstantWithWarmup => 1.0,
        }
    }
}

/// Steps of warm-up: `warmup_steps` if it is not 0, else that share of the whole, rounded up, as in transformers.
pub fn warmup_steps(warmup_steps: u64, warmup_ratio: f64, total_steps: u64) -> u64 {
    if warmup_steps > 0 { warmup_steps } else { (warmup_ratio * total_steps as f64).ceil() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, learning_rate: 2.0, warmup_steps: 4, total_steps: 12 }
    }

    #[test]
    fn linear_rises_and_falls() {
        let linear = schedule(ScheduleKind::Linear);
        let rates: Vec<f64> = (0..=12).map(|step| linear.at(step)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 1.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0]);
    }

    #[test]
    fn cosine_is_half_way_in_the_middle_and_0_at_the_end() {
        let cosine = schedule(ScheduleKind::Cosine);
        assert_eq!(cosine.at(4), 2.0);
        assert!((cosine.at(8) - 1.0).abs() < 1e-12);
        assert!(cosine.at(12).abs() < 1e-12);
    }

    #[test]
    fn constant_ignores_warm_up_unless_asked() {
        assert_eq!(schedule(ScheduleKind::Constant).at(0), 2.0);
        assert_eq!(schedule(ScheduleKind::ConstantWithWarmup).at(1), 0.5);
        assert_eq!(schedule(ScheduleKind::ConstantWithWarmup).at(11), 2.0);
    }

    #[test]
    fn warm_up_by_steps_wins_over_the_ratio_which_rounds_up() {
        assert_eq!(warmup_steps(0, 0.1, 5000), 500);
        assert_eq!(warmup_steps(0, 0.1, 11), 2);
        assert_eq!(warmup_steps(3, 0.1, 5000), 3);
    }

    #[test]
    fn an_unknown_name_offers_the_nearest() {
        assert_eq!("constant_with_warmup".parse(), Ok(ScheduleKind::ConstantWithWarmup));
        let error = "cosin".parse::<ScheduleKind>().unwrap_err();
        assert_eq!(error, "no schedule of this name; the nearest is cosine");
    }
}
