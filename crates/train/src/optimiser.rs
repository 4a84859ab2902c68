//! AdamW on one flat slice of parameters, and clipping by the global norm.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Added to the norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does.
const CLIP_EPSILON: f64 = 1e-6;

/// What AdamW is told besides the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWSettings {
    /// Decay of the running mean of gradients, β₁.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients, β₂.
    pub beta2: f64,
    /// Added to the denominator, ε.
    pub epsilon: f64,
    /// Share of a parameter taken off a step, times the learning rate, λ.
    pub weight_decay: f64,
}

/// Parameters that are moved in another way than the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterGroup {
    /// Where they lie in the values.
    pub range: Range<usize>,
    /// Whether they know weight decay.
    pub decays: bool,
    /// Their learning rate by that of the rest.
    pub rate: f64,
}

impl Default for AdamWSettings {
    /// The defaults of the Hugging Face trainer.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), in the order of operations of
/// `torch.optim.AdamW`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    settings: AdamWSettings,
    /// Running mean of the gradients, m: `[parameters]`.
    pub mean: Vec<f32>,
    /// Running mean of the squared gradients, v: `[parameters]`.
    pub square: Vec<f32>,
    /// Steps taken, t.
    pub step: u64,
}

impl AdamW {
    /// A fresh optimiser for that many parameters.
    pub fn new(settings: AdamWSettings, parameters: usize) -> Self {
        Self { settings, mean: vec![0.0; parameters], square: vec![0.0; parameters], step: 0 }
    }

    /// Moves `values` one step against `gradients`: both `[parameters]`. The groups are in order; what stands in none of
    /// them decays, and has the learning rate itself.
    ///
    /// θ ← θ (1 - ηλ);  m ← m + (1 - β₁)(g - m);  v ← β₂ v + (1 - β₂) g²;
    /// θ ← θ - η / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε).
    pub fn update(
        &mut self,
        values: &mut [f32],
        gradients: &[f32],
        learning_rate: f64,
        groups: &[ParameterGroup],
    ) {
        self.step += 1;
        let weight_decay = self.settings.weight_decay;
        let keep = |rate: f64| (1.0 - rate * weight_decay) as f32;
        let mut start = 0;
        for ParameterGroup { range, decays, rate } in groups {
            self.move_range(start..range.start, keep(learning_rate), values, (gradients, learning_rate));
            let rate = rate * learning_rate;
            let keep = if *decays { keep(rate) } else { 1.0 };
            self.move_range(range.clone(), keep, values, (gradients, rate));
            start = range.end;
        }
        self.move_range(start..values.len(), keep(learning_rate), values, (gradients, learning_rate));
    }

    fn move_range(
        &mut self,
        range: Range<usize>,
        keep: f32,
        values: &mut [f32],
        (gradients, learning_rate): (&[f32], f64),
    ) {
        let AdamWSettings { beta1, beta2, epsilon, .. } = self.settings;
        let steps = self.step as f64;
        let step_size = (learning_rate / (1.0 - beta1.powf(steps))) as f32;
        let correction = (1.0 - beta2.powf(steps)).sqrt() as f32;
        let (weight1, beta2, weight2) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
        let epsilon = epsilon as f32;
        let moments = self.mean[range.clone()].iter_mut().zip(&mut self.square[range.clone()]);
        let values = values[range.clone()].iter_mut().zip(&gradients[range]);
        for ((value, &gradient), (mean, square)) in values.zip(moments) {
            *mean += weight1 * (gradient - *mean);
            *square = beta2 * *square + weight2 * gradient * gradient;
            *value = *value * keep - step_size * (*mean / (square.sqrt() / correction + epsilon));
        }
    }
}

/// Scales the gradients so that their Euclidean norm is at most `max_norm`, as torch's `clip_grad_norm_`;
/// returns the norm before. 0 switches clipping off.
pub fn clip_norm(gradients: &mut [f32], max_norm: f64) -> f64 {
    let norm = gradients.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
    let scale = max_norm / (norm + CLIP_EPSILON);
    if max_norm > 0.0 && scale < 1.0 {
        let scale = scale as f32;
        gradients.iter_mut().for_each(|gradient| *gradient *= scale);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From m = v = 0 the first step's m̂ is g and v̂ is g², so the parameter moves by η · sign(g), after losing
    /// ηλ of itself: 1 · (1 - 0.1 · 0.5) - 0.1 = 0.85 and -2 · 0.95 + 0.1 = -1.8.
    #[test]
    fn the_first_step_by_hand() {
        let settings = AdamWSettings { weight_decay: 0.5, ..AdamWSettings::default() };
        let mut optimiser = AdamW::new(settings, 2);
        let mut values = [1.0f32, -2.0];
        optimiser.update(&mut values, &[3.0, -0.01], 0.1, &[]);
        // f32 rounding of values near 1, and ε / |g| = 1e-6 of the 0.1 moved.
        assert!((values[0] - 0.85).abs() < 3e-7, "{values:?}");
        assert!((values[1] + 1.8).abs() < 5e-7, "{values:?}");
        assert_eq!(optimiser.step, 1);
    }

    #[test]
    fn groups_decay_or_not_and_have_learning_rates_of_their_own() {
        let settings = AdamWSettings { weight_decay: 0.5, ..AdamWSettings::default() };
        let step = |settings: AdamWSettings, rate: f64, groups: &[ParameterGroup]| {
            let (mut optimiser, mut values) = (AdamW::new(settings, 5), [1.0f32, 2.0, 3.0, 4.0, 5.0]);
            optimiser.update(&mut values, &[1.0; 5], rate, groups);
            values
        };
        let group = |range, decays, rate| ParameterGroup { range, decays, rate };
        let (all, none) = (step(settings, 0.1, &[]), step(AdamWSettings::default(), 0.1, &[]));
        assert!(all.iter().zip(&none).all(|(all, none)| all < none));
        let undecayed = [group(1..2, false, 1.0), group(3..5, false, 1.0)];
        assert_eq!(step(settings, 0.1, &undecayed), [all[0], none[1], all[2], none[3], none[4]]);
        let fast = step(settings, 0.4, &[]);
        let faster = [group(0..1, true, 4.0), group(4..5, true, 4.0)];
        assert_eq!(step(settings, 0.1, &faster), [fast[0], all[1], all[2], all[3], fast[4]]);
    }

    #[test]
    fn clipping_shortens_to_the_norm_and_leaves_short_ones_alone() {
        let mut long = [3.0f32, 4.0];
        assert_eq!(clip_norm(&mut long, 1.0), 5.0);
        assert!((long[0] - 0.6).abs() < 1e-6 && (long[1] - 0.8).abs() < 1e-6, "{long:?}");
        let mut short = [0.3f32, 0.4];
        clip_norm(&mut short, 1.0);
        assert_eq!(short, [0.3, 0.4]);
        let mut unlimited = [30.0f32, 40.0];
        assert_eq!(clip_norm(&mut unlimited, 0.0), 50.0);
        assert_eq!(unlimited, [30.0, 40.0]);
    }

    #[test]
    fn a_gradient_that_is_not_finite_shows_in_the_norm() {
        assert!(!clip_norm(&mut [1.0, f32::NAN], 1.0).is_finite());
        assert!(!clip_norm(&mut [1.0, f32::INFINITY], 1.0).is_finite());
    }
}
