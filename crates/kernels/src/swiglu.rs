//! SwiGLU (Shazeer 2020): silu(gate) · up, with silu(x) = x / (1 + e⁻ˣ).

use crate::simd::{exp, vectorised};

/// Rows of [gate | up], each half `width` wide, into rows of `width`.
pub fn swiglu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
                let (gate, up) = row.split_at(width);
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = gate * sigmoid(*gate) * up;
                }
            }
        },
    );
}

/// The gradient by [gate | up] into `d_gate_up`, from the gradient `d_out` by the product.
pub fn swiglu_backward(gate_up: &[f32], width: usize, d_out: &[f32], d_gate_up: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            let rows = gate_up.chunks_exact(2 * width).zip(d_out.chunks_exact(width));
            for ((row, d_out), d_row) in rows.zip(d_gate_up.chunks_exact_mut(2 * width)) {
                let (gate, up) = row.split_at(width);
                let (d_gate, d_up) = d_row.split_at_mut(width);
                for i in 0..width {
                    let (gate, up, d_out) = (gate[i], up[i], d_out[i]);
                    let sigmoid = sigmoid(gate);
                    d_up[i] = d_out * gate * sigmoid;
                    d_gate[i] = d_out * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
                }
            }
        },
    );
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    // e^88 is the largest that f32 holds; beyond it the sigmoid is 0 all the same.
    let x = if x < -88.0 { -88.0 } else { x };
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Difference, values};

    #[test]
    fn the_product_equals_its_definition_and_its_gradient_finite_differences() {
        let (width, rows) = (19, 2);
        let x: Vec<f32> = values(2 * width * rows, 1).iter().map(|x| x * 6.0).collect();
        let d_out = values(width * rows, 2);
        let exact = |x: &[f64]| -> f64 {
            (0..width * rows)
                .map(|i| {
                    let at = i / width * 2 * width + i % width;
                    f64::from(d_out[i]) * x[at] / (1.0 + (-x[at]).exp()) * x[at + width]
                })
                .sum()
        };
        let x64: Vec<f64> = x.iter().map(|&x| x.into()).collect();
        let mut out = vec![0.0; width * rows];
        swiglu(&x, width, &mut out);
        let loss: f64 = out.iter().zip(&d_out).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!((loss - exact(&x64)).abs() < 1e-4);
        let mut dx = vec![0.0; x.len()];
        swiglu_backward(&x, width, &d_out, &mut dx);
        Difference::of(exact, &x64).assert_close(&dx, 1e-5);
    }

    #[test]
    fn extreme_gates_stay_finite() {
        let mut out = [0.0; 2];
        swiglu(&[-1e4, 1e4, 1.0, 1.0], 2, &mut out);
        assert!(out[0].abs() < 1e-30 && out[1] == 1e4, "{out:?}");
    }
}
