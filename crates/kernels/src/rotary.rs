//! Rotary position embedding (Su et al. 2021) in the halves layout of Hugging Face: dimension i turns with
//! dimension i + D/2.

use crate::simd::vectorised;

/// Cosine and sine of every position and frequency, scaled by the attention factor.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// By the position's angle: the forward pass.
    Forward,
    /// Back by it: the gradient.
    Backward,
}

impl RotaryTable {
    /// Tables for positions 0 to `positions`; `frequencies` are the angles of one position, D/2 of them.
    pub fn new(frequencies: &[f32], factor: f32, positions: usize) -> Self {
        let mut table = Self { half: frequencies.len(), cos: Vec::new(), sin: Vec::new() };
        for position in 0..positions {
            for frequency in frequencies {
                // The angle is rounded to f32 before its cosine is taken, as transformers does.
                let angle = f64::from(position as f32 * frequency);
                table.cos.push(angle.cos() as f32 * factor);
                table.sin.push(angle.sin() as f32 * factor);
            }
        }
        table
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// The scaled cosines, [positions, half].
    pub fn cosines(&self) -> &[f32] {
        &self.cos
    }

    /// The scaled sines, [positions, half].
    pub fn sines(&self) -> &[f32] {
        &self.sin
    }

    /// Turns every head of a row of heads, each of 2 × `half` values, in place.
    ///
    /// # Panics
    /// When the position is outside the table.
    pub fn apply(&self, heads: &mut [f32], position: usize, turn: Turn) {
        let cos = &self.cos[position * self.half..][..self.half];
        let sin = &self.sin[position * self.half..][..self.half];
        let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
        vectorised(
            #[inline(always)]
            || {
                for head in heads.chunks_exact_mut(2 * self.half) {
                    let (first, second) = head.split_at_mut(self.half);
                    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                        let sin = sin * sign;
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::values;

    #[test]
    fn turning_forth_and_back_scales_by_the_factor_squared() {
        let table = RotaryTable::new(&[1.0, 0.1, 0.01], 1.5, 40);
        let start = values(12, 1);
        let mut heads = start.clone();
        table.apply(&mut heads, 37, Turn::Forward);
        let (angle, x, y) = (3.7f64, f64::from(start[7]), f64::from(start[10]));
        assert!((f64::from(heads[7]) - 1.5 * (x * angle.cos() - y * angle.sin())).abs() < 1e-6);
        table.apply(&mut heads, 37, Turn::Backward);
        assert!(heads.iter().zip(&start).all(|(a, b)| (a - 2.25 * b).abs() < 1e-6));
    }
}
