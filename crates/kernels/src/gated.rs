//! Gated linear units (Shazeer 2020): a(gate) · up, with a the gate's activation.

use crate::simd::{exp, vectorised};

/// What the gate passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// SwiGLU: x · σ(x), where σ(x) = 1 / (1 + e⁻ˣ).
    Silu,
    /// GeGLU with GELU as a hyperbolic tangent approximates it (Hendrycks and Gimpel 2016, section 2):
    /// x · (1 + tanh u) / 2 = x · σ(2u), where u = √(2/π) · (x + 0.044715 · x³).
    GeluTanh,
}

/// 2 · √(2/π).
const DOUBLE: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

/// Rows of [gate | up], each half `width` wide, into rows of `width`.
pub fn gated(activation: Activation, gate_up: &[f32], width: usize, out: &mut [f32]) {
    match activation {
        Activation::Silu => forward(
            gate_up,
            width,
            out,
            #[inline(always)]
            |gate| gate * sigmoid(gate),
        ),
        Activation::GeluTanh => forward(
            gate_up,
            width,
            out,
            #[inline(always)]
            |gate| gate * sigmoid(doubled(gate)),
        ),
    }
}

/// The gradient by [gate | up] into `d_gate_up`, from the gradient `d_out` by the product.
pub fn gated_backward(
    activation: Activation,
    gate_up: &[f32],
    width: usize,
    d_out: &[f32],
    d_gate_up: &mut [f32],
) {
    match activation {
        Activation::Silu => backward(
            gate_up,
            width,
            (d_out, d_gate_up),
            #[inline(always)]
            |gate| {
                let sigmoid = sigmoid(gate);
                (sigmoid, 1.0 + gate * (1.0 - sigmoid))
            },
        ),
        Activation::GeluTanh => backward(
            gate_up,
            width,
            (d_out, d_gate_up),
            #[inline(always)]
            |gate| {
                let sigmoid = sigmoid(doubled(gate));
                let steepness = DOUBLE * (3.0 * CUBIC * gate).mul_add(gate, 1.0);
                // What is left of 1 behind a gate of 10 would be multiplied with a cube of any size.
                let rest = if gate.abs() < 10.0 { gate * (1.0 - sigmoid) * steepness } else { 0.0 };
                (sigmoid, 1.0 + rest)
            },
        ),
    }
}

#[inline(always)]
fn forward(gate_up: &[f32], width: usize, out: &mut [f32], activated: impl Fn(f32) -> f32) {
    vectorised(
        #[inline(always)]
        || {
            for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
                let (gate, up) = row.split_at(width);
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = activated(*gate) * up;
                }
            }
        },
    );
}

/// `factors` gives s and r of a gate x where the activation is x · s, and its derivative s · r.
#[inline(always)]
fn backward(
    gate_up: &[f32],
    width: usize,
    (d_out, d_gate_up): (&[f32], &mut [f32]),
    factors: impl Fn(f32) -> (f32, f32),
) {
    vectorised(
        #[inline(always)]
        || {
            let rows = gate_up.chunks_exact(2 * width).zip(d_out.chunks_exact(width));
            for ((row, d_out), d_row) in rows.zip(d_gate_up.chunks_exact_mut(2 * width)) {
                let (gate, up) = row.split_at(width);
                let (d_gate, d_up) = d_row.split_at_mut(width);
                for i in 0..width {
                    let (gate, up, d_out) = (gate[i], up[i], d_out[i]);
                    let (sigmoid, rest) = factors(gate);
                    d_up[i] = d_out * gate * sigmoid;
                    d_gate[i] = d_out * up * sigmoid * rest;
                }
            }
        },
    );
}

/// 2u of the approximated GELU.
#[inline(always)]
fn doubled(x: f32) -> f32 {
    DOUBLE * x * (CUBIC * x).mul_add(x, 1.0)
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

    const ALL: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + u.tanh())
            }
        }
    }

    #[test]
    fn the_product_equals_its_definition_and_its_gradient_finite_differences() {
        let (width, rows) = (19, 2);
        let x: Vec<f32> = values(2 * width * rows, 1).iter().map(|x| x * 6.0).collect();
        let x64: Vec<f64> = x.iter().map(|&x| x.into()).collect();
        let d_out = values(width * rows, 2);
        for activation in ALL {
            let product = |x: &[f64], i: usize| {
                let at = i / width * 2 * width + i % width;
                exact(activation, x[at]) * x[at + width]
            };
            let mut out = vec![0.0; width * rows];
            gated(activation, &x, width, &mut out);
            for (i, &out) in out.iter().enumerate() {
                assert!((f64::from(out) - product(&x64, i)).abs() < 5e-6, "{activation:?}");
            }
            let loss =
                |x: &[f64]| (0..width * rows).map(|i| f64::from(d_out[i]) * product(x, i)).sum::<f64>();
            let mut dx = vec![0.0; x.len()];
            gated_backward(activation, &x, width, &d_out, &mut dx);
            Difference::of(loss, &x64).assert_close(&dx, 1e-5);
        }
    }

    #[test]
    fn extreme_gates_stay_finite() {
        for activation in ALL {
            let (gates, mut out, mut slopes) = ([-1e18, 1e18, 1.0, 1.0], [0.0; 2], [0.0; 4]);
            gated(activation, &gates, 2, &mut out);
            assert!(out[0].abs() < 1e-15 && out[1] == 1e18, "{activation:?}: {out:?}");
            gated_backward(activation, &gates, 2, &[1.0, 1.0], &mut slopes);
            assert!(slopes[0].abs() < 1e-15 && slopes[1] == 1.0, "{activation:?}: {slopes:?}");
        }
    }
}
