//! RMS norm (Zhang and Sennrich 2019): y = w · x / √(mean(x²) + ε), row by row.

use crate::simd::{LANES, dot, sum, vectorised};

/// The norm of every row of `x`, of the weight's length, into `y`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) {
    let width = weight.len();
    vectorised(
        #[inline(always)]
        || {
            for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                let scale = inverse_rms(x, epsilon);
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * scale * w;
                }
            }
        },
    );
}

/// Adds to `dx` the gradient by `x`, from the gradient `dy` by the norm.
///
/// With r = 1 / rms(x): dx = r · w · dy - x · r³ / n · Σ w · dy · x.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32]) {
    let width = weight.len();
    vectorised(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
            for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
                let scale = inverse_rms(x, epsilon);
                let products = dot3(dy, weight, x);
                let back = scale * scale * scale * products / width as f32;
                for (((dx, dy), w), x) in dx.iter_mut().zip(dy).zip(weight).zip(x) {
                    *dx += (dy * w).mul_add(scale, -(x * back));
                }
            }
        },
    );
}

/// Adds to `d_weight` the gradient by the weight, from the gradient `dy` by the norm: Σ dy · x / rms(x) over the
/// rows, in order.
pub fn rms_norm_weight_gradient(x: &[f32], epsilon: f32, dy: &[f32], d_weight: &mut [f32]) {
    let width = d_weight.len();
    vectorised(
        #[inline(always)]
        || {
            for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
                let scale = inverse_rms(x, epsilon);
                for ((sum, x), dy) in d_weight.iter_mut().zip(x).zip(dy) {
                    *sum = (x * scale).mul_add(*dy, *sum);
                }
            }
        },
    );
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}

/// Σ a · b · c.
#[inline(always)]
fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = a.chunks(LANES).zip(b.chunks(LANES)).zip(c.chunks(LANES));
    for ((a, b), c) in chunks {
        for (lane, ((a, b), c)) in lanes.iter_mut().zip(a.iter().zip(b).zip(c)) {
            *lane = (a * b).mul_add(*c, *lane);
        }
    }
    sum(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Difference, values};

    #[test]
    fn the_norm_equals_its_definition_and_its_gradient_finite_differences() {
        for width in [3, 7, 16, 50] {
            let (x, w, dy) = (values(3 * width, 1), values(width, 2), values(3 * width, 3));
            let exact = |x: &[f64], w: &[f64]| -> f64 {
                let norm =
                    |row: &[f64]| (row.iter().map(|x| x * x).sum::<f64>() / width as f64 + 1e-5).sqrt();
                (0..3 * width)
                    .map(|i| {
                        let row = &x[i / width * width..][..width];
                        f64::from(dy[i]) * w[i % width] * x[i] / norm(row)
                    })
                    .sum()
            };
            let mut y = vec![0.0; 3 * width];
            rms_norm(&x, &w, 1e-5, &mut y);
            let loss: f64 = y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum();
            let [x64, w64] = [&x, &w].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
            assert!((loss - exact(&x64, &w64)).abs() < 1e-5 * width as f64);
            let mut dx = vec![0.5; 3 * width];
            rms_norm_backward(&x, &w, 1e-5, &dy, &mut dx);
            dx.iter_mut().for_each(|dx| *dx -= 0.5);
            Difference::of(|x| exact(x, &w64), &x64).assert_close(&dx, 1e-4);
            let mut dw = vec![0.5; width];
            rms_norm_weight_gradient(&x, 1e-5, &dy, &mut dw);
            dw.iter_mut().for_each(|dw| *dw -= 0.5);
            Difference::of(|w| exact(&x64, w), &w64).assert_close(&dw, 1e-4);
        }
    }
}
