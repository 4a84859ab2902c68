//! AdamW on one flat slice of parameters, its moments in f32 or in 8 bits, and clipping by the global norm.

mod moments;

use std::ops::Range;
use std::str::FromStr;

use collimate_kernels::quant::DynamicMap;
use collimate_model::Tensors;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use moments::Moment;
use moments::{BLOCK, Block, Place, Tensor};

/// Added to the norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does.
const CLIP_EPSILON: f64 = 1e-6;

/// Which optimiser; the names are those of transformers' `optim`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optim {
    /// AdamW with its moments in f32.
    #[default]
    AdamwTorch,
    /// AdamW with its moments in blocks of 8 bits, as bitsandbytes keeps them: a quarter of the memory.
    #[serde(rename = "adamw_8bit")]
    Adamw8Bit,
}

impl Optim {
    /// Every optimiser.
    pub const ALL: [Self; 2] = [Self::AdamwTorch, Self::Adamw8Bit];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::AdamwTorch => "adamw_torch",
            Self::Adamw8Bit => "adamw_8bit",
        }
    }

    /// Bytes of both moments of parameters that are cut into these tensors.
    pub fn moment_bytes(self, tensors: &Tensors) -> u64 {
        let [floats, codes, scales] = moments::lay_out(self, tensors).1;
        2 * (size_of::<f32>() * (floats + scales) + codes) as u64
    }
}

impl std::fmt::Display for Optim {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Optim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(" and ");
        let found = Self::ALL.into_iter().find(|optim| optim.name() == text);
        found.ok_or_else(|| format!("no optimiser of this name; there are {names}"))
    }
}

/// What AdamW is told besides the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWSettings {
    /// How its moments are held.
    pub optim: Optim,
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
        Self { optim: Optim::AdamwTorch, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), in the order of operations of
/// `torch.optim.AdamW`; with moments in 8 bits, they are read from their blocks before a step and rounded into them after
/// it, as bitsandbytes' `AdamW8bit` does.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    settings: AdamWSettings,
    tensors: Vec<Tensor>,
    /// Running mean of the gradients, m.
    pub mean: Moment,
    /// Running mean of the squared gradients, v.
    pub square: Moment,
    /// Steps taken, t.
    pub step: u64,
}

impl AdamW {
    /// A fresh optimiser for parameters that are cut into these tensors, one after the other.
    pub fn new(settings: AdamWSettings, tensors: &Tensors) -> Self {
        let (tensors, lengths) = moments::lay_out(settings.optim, tensors);
        let [mean, square] =
            [DynamicMap::signed(), DynamicMap::unsigned()].map(|map| moments::zeros(lengths, map));
        Self { settings, tensors, mean, square, step: 0 }
    }

    /// Moves `values` one step against `gradients`: both `[parameters]`. A tensor that starts in one of the groups is
    /// moved in its way; any other decays, and has the learning rate itself.
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
        let (settings, step) = (self.settings, self.step);
        for Tensor { parameters, place } in &self.tensors {
            let group = groups.iter().find(|group| group.range.contains(&parameters.start));
            let (decays, rate) = group.map_or((true, 1.0), |group| (group.decays, group.rate));
            let step = Step::new(settings, step, rate * learning_rate);
            let step = if decays { step } else { Step { keep: 1.0, ..step } };
            let (values, gradients) = (&mut values[parameters.clone()], &gradients[parameters.clone()]);
            let (mean, square) = (&mut self.mean, &mut self.square);
            match *place {
                Place::Floats(start) => {
                    let place = start..start + parameters.len();
                    step.take(
                        values,
                        gradients,
                        [&mut mean.floats[place.clone()], &mut square.floats[place]],
                    );
                }
                Place::Blocks(start) => {
                    let means = mean.blocks(DynamicMap::signed(), start, parameters.len());
                    let squares = square.blocks(DynamicMap::unsigned(), start, parameters.len());
                    let blocks = values.par_chunks_mut(BLOCK).zip(gradients.par_chunks(BLOCK));
                    blocks.zip(means.zip(squares)).for_each(|((values, gradients), blocks)| {
                        step.take_in_blocks(values, gradients, blocks);
                    });
                }
            }
        }
    }
}

/// One step, as it is the same for all parameters.
#[derive(Clone, Copy)]
struct Step {
    /// What is left of a parameter after weight decay.
    keep: f32,
    size: f32,
    correction: f32,
    weight1: f32,
    beta2: f32,
    weight2: f32,
    epsilon: f32,
}

impl Step {
    fn new(settings: AdamWSettings, step: u64, learning_rate: f64) -> Self {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay, .. } = settings;
        let steps = step as f64;
        Self {
            keep: (1.0 - learning_rate * weight_decay) as f32,
            size: (learning_rate / (1.0 - beta1.powf(steps))) as f32,
            correction: (1.0 - beta2.powf(steps)).sqrt() as f32,
            weight1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            weight2: (1.0 - beta2) as f32,
            epsilon: epsilon as f32,
        }
    }

    fn take(self, values: &mut [f32], gradients: &[f32], [means, squares]: [&mut [f32]; 2]) {
        let moments = means.iter_mut().zip(squares);
        for ((value, &gradient), (mean, square)) in values.iter_mut().zip(gradients).zip(moments) {
            *mean += self.weight1 * (gradient - *mean);
            *square = self.beta2 * *square + self.weight2 * gradient * gradient;
            *value =
                *value * self.keep - self.size * (*mean / (square.sqrt() / self.correction + self.epsilon));
        }
    }

    /// The same with one block of each moment.
    fn take_in_blocks(self, values: &mut [f32], gradients: &[f32], (mean, square): (Block<'_>, Block<'_>)) {
        let mut moments = [[0.0; BLOCK]; 2];
        let [means, squares] = moments.each_mut().map(|moment| &mut moment[..values.len()]);
        mean.read(means);
        square.read(squares);
        self.take(values, gradients, [means, squares]);
        mean.write(means);
        square.write(squares);
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
        let mut optimiser = AdamW::new(settings, &std::slice::from_ref(&(0..2)).into());
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
        let tensors = Tensors::from(&[0..1, 1..2, 2..3, 3..4, 4..5][..]);
        let step = |settings: AdamWSettings, rate: f64, groups: &[ParameterGroup]| {
            let (mut optimiser, mut values) = (AdamW::new(settings, &tensors), [1.0f32, 2.0, 3.0, 4.0, 5.0]);
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
