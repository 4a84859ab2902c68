//! Soft-capping (Gemma 2, Riviere et al. 2024, section 2): x becomes c · tanh(x / c), which stays between -c and c.

use crate::simd::{tanh, vectorised};

/// Replaces every value x by c · tanh(scale · x / c), where c is the `cap`.
pub fn softcap(values: &mut [f32], scale: f32, cap: f32) {
    let inner = scale / cap;
    vectorised(
        #[inline(always)]
        || values.iter_mut().for_each(|x| *x = cap * tanh(*x * inner)),
    );
}

/// [`softcap`] with a scale of 1 that also writes the derivative 1 - tanh²(x / c) of each value into `slopes`.
pub(crate) fn softcap_with_slopes(values: &mut [f32], cap: f32, slopes: &mut [f32]) {
    let inner = 1.0 / cap;
    vectorised(
        #[inline(always)]
        || {
            for (x, slope) in values.iter_mut().zip(slopes) {
                let bent = tanh(*x * inner);
                (*x, *slope) = (cap * bent, (1.0 - bent) * (1.0 + bent));
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Difference, values};

    #[test]
    fn values_equal_the_definition_and_slopes_finite_differences() {
        let x: Vec<f32> = values(53, 1).iter().map(|x| x * 80.0).collect();
        let cap = 30.0;
        let (mut capped, mut with_slopes, mut slopes) = (x.clone(), x.clone(), vec![0.0; x.len()]);
        softcap(&mut capped, 1.0, cap);
        softcap_with_slopes(&mut with_slopes, cap, &mut slopes);
        assert_eq!(capped, with_slopes);
        let x64: Vec<f64> = x.iter().map(|&x| x.into()).collect();
        let exact = |x: f64| 30.0 * (x / 30.0).tanh();
        for (got, &x) in capped.iter().zip(&x64) {
            assert!((f64::from(*got) - exact(x)).abs() < 5e-6, "{got} instead of {}", exact(x));
        }
        Difference::of(|x| x.iter().map(|&x| exact(x)).sum(), &x64).assert_close(&slopes, 1e-6);
        softcap(&mut with_slopes, 0.5, cap);
        assert!(with_slopes.iter().zip(&capped).all(|(half, x)| half.abs() <= x.abs() * 0.5));
    }

    #[test]
    fn whatever_is_put_in_stays_within_the_cap() {
        let mut extreme = [f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e-30];
        softcap(&mut extreme, 1.0, 50.0);
        assert_eq!(extreme[..5], [50.0, -50.0, 50.0, -50.0, 0.0]);
        assert!((extreme[5] / 1e-30 - 1.0).abs() < 1e-6);
    }
}
