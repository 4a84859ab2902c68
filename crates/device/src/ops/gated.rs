//! Gated units: a(gate) · up, where a is SiLU or GELU as a hyperbolic tangent approximates it (Shazeer 2020).

use candle_core::{D, Result, Tensor};
use collimate_model::Activation;

/// 2 · √(2/π).
const DOUBLE: f64 = 1.595_769_121_605_730_7;
const CUBIC: f64 = 0.044_715;
/// Gates beyond this have a slope of 0 or 1 in any precision; their cubes would leave the range of f32.
const STEEP: f64 = 10.0;

/// a(gate) · up, [rows, width], of rows of [gate | up], [rows, 2 × width].
pub(crate) fn gated(activation: Activation, gate_up: &Tensor) -> Result<Tensor> {
    let (gate, up) = halves(gate_up)?;
    (&gate * share(activation, &gate)?)? * up
}

/// The gradient by [gate | up], from the gradient by the product. With a(x) = x · σ(f(x)), a's derivative is
/// σ · (1 + x · f'(x) · (1 - σ)).
pub(crate) fn gated_backward(activation: Activation, gate_up: &Tensor, d_out: &Tensor) -> Result<Tensor> {
    let (gate, up) = halves(gate_up)?;
    let share = share(activation, &gate)?;
    let rest = share.affine(-1.0, 1.0)?;
    let rest = match activation {
        Activation::Silu => (rest * &gate)?,
        Activation::GeluTanh => {
            let gate = gate.clamp(-STEEP, STEEP)?;
            let steepness = gate.sqr()?.affine(3.0 * CUBIC * DOUBLE, DOUBLE)?;
            ((rest * gate)? * steepness)?
        }
    };
    let by_activated = (d_out * &share)?;
    let d_up = (&by_activated * gate)?;
    let d_gate = ((by_activated * up)? * rest.affine(1.0, 1.0)?)?;
    Tensor::cat(&[d_gate, d_up], D::Minus1)
}

fn halves(gate_up: &Tensor) -> Result<(Tensor, Tensor)> {
    let width = gate_up.dim(D::Minus1)? / 2;
    Ok((gate_up.narrow(D::Minus1, 0, width)?, gate_up.narrow(D::Minus1, width, width)?))
}

/// σ(f(x)): the share of the gate that passes. f is x itself, or for GELU 2 · √(2/π) · (x + 0.044715 · x³).
fn share(activation: Activation, gate: &Tensor) -> Result<Tensor> {
    let inner = match activation {
        Activation::Silu => gate.clone(),
        Activation::GeluTanh => (gate * gate.sqr()?.affine(CUBIC * DOUBLE, DOUBLE)?)?,
    };
    // e^-f may be infinite: one by that is 0, as it should be.
    inner.neg()?.exp()?.affine(1.0, 1.0)?.recip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_near, assert_slopes, host, tensor, weighed};
    use candle_core::Device;
    use collimate_kernels::gated as kernels;

    const ALL: [(Activation, kernels::Activation); 2] = [
        (Activation::Silu, kernels::Activation::Silu),
        (Activation::GeluTanh, kernels::Activation::GeluTanh),
    ];

    #[test]
    fn values_are_the_kernels_and_slopes_finite_differences() -> Result<()> {
        let (rows, width) = (4, 9);
        let x = (tensor(&[rows, 2 * width], 1)? * 6.0)?;
        for (activation, reference) in ALL {
            let mut expected = vec![0.0; rows * width];
            kernels::gated(reference, &host(&x)?, width, &mut expected);
            assert_near(&gated(activation, &x)?, &expected, 1e-6)?;
            let loss = |x: &Tensor| weighed(&gated(activation, x)?, 2);
            assert_slopes(&x, loss, |x, d| gated_backward(activation, x, &d(&gated(activation, x)?)?))?;
        }
        Ok(())
    }

    #[test]
    fn extreme_gates_stay_finite() -> Result<()> {
        let x = Tensor::new(&[[-1e18f32, 1e18, 1.0, 1.0]], &Device::Cpu)?;
        let ones = Tensor::new(&[[1.0f32, 1.0]], &Device::Cpu)?;
        for (activation, _) in ALL {
            assert_near(&gated(activation, &x)?, &[0.0, 1e18], 0.0)?;
            let slopes = host(&gated_backward(activation, &x, &ones)?)?;
            assert!(slopes[0].abs() < 1e-15 && slopes[1] == 1.0, "{activation:?}: {slopes:?}");
        }
        Ok(())
    }
}
