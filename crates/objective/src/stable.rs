//! Functions that stay finite however far a policy has gone from its reference.

/// Where [`growth`] leaves the exponential: e³⁰ = 1e13, whose square, as in a squared loss, leaves f32 room for the
/// way back through a model.
const STEEPEST: f64 = 30.0;

/// σ(x) = 1 / (1 + e⁻ˣ), to full relative precision on both sides.
pub(crate) fn sigmoid(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    if x < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) }
}

/// log σ(x) = min(x, 0) - log(1 + e^-|x|).
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// eˣ and its derivative; beyond e³⁰ it goes on along its tangent, so that the gradient of a collapsed policy is
/// neither infinite nor cut off.
pub(crate) fn growth(x: f64) -> (f64, f64) {
    let slope = x.min(STEEPEST).exp();
    (slope * (1.0 + (x - STEEPEST).max(0.0)), slope)
}

/// (1 - e^(-alpha x)) / alpha and its derivative by x; x itself where alpha is 0.
pub(crate) fn tempered(x: f64, alpha: f64) -> (f64, f64) {
    if alpha == 0.0 {
        return (x, 1.0);
    }
    let exponent = -alpha * x;
    if exponent < STEEPEST {
        return (-exponent.exp_m1() / alpha, exponent.exp());
    }
    let (value, slope) = growth(exponent);
    ((1.0 - value) / alpha, slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// σ(ln 3) = 3 / 4, its logarithm ln 0.75; e² and (1 - e^(-0.5 · 2 ln 2)) / 0.5 = (1 - 1/2) / 0.5 = 1.
    #[test]
    fn hand_worked() {
        assert!((sigmoid(3f64.ln()) - 0.75).abs() < 1e-15);
        assert!((sigmoid(-(3f64.ln())) - 0.25).abs() < 1e-15);
        assert!((log_sigmoid(3f64.ln()) - 0.75f64.ln()).abs() < 1e-15);
        assert!((growth(2.0).0 - 2f64.exp()).abs() < 1e-14);
        let (value, slope) = tempered(2.0 * 2f64.ln(), 0.5);
        assert!((value - 1.0).abs() < 1e-15 && (slope - 0.5).abs() < 1e-15, "{value} {slope}");
    }

    #[test]
    fn far_out_everything_is_finite_and_continuous() {
        for x in [-1e6, -745.0, -30.0, 0.0, 30.0, 745.0, 1e6] {
            for value in [sigmoid(x), log_sigmoid(x), growth(x).0, growth(x).1, tempered(x, 0.5).0] {
                assert!(value.is_finite(), "{x} {value}");
            }
        }
        assert_eq!(log_sigmoid(-1e6), -1e6);
        let below = growth(STEEPEST - 1e-9).0;
        let above = growth(STEEPEST + 1e-9).0;
        assert!((above / below - 1.0).abs() < 1e-8, "{below} {above}");
        let below = tempered(-2.0 * (STEEPEST - 1e-9), 0.5).0;
        let above = tempered(-2.0 * (STEEPEST + 1e-9), 0.5).0;
        assert!((above / below - 1.0).abs() < 1e-8, "{below} {above}");
    }
}
