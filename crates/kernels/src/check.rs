//! What the kernels' tests share: values to work on, and finite differences to hold gradients against.

/// Deterministic values in [-1, 1).
pub(crate) fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        })
        .collect()
}

/// The gradient of a scalar function in f64, by central differences.
pub(crate) struct Difference(Vec<f64>);

impl Difference {
    pub(crate) fn of(function: impl Fn(&[f64]) -> f64, at: &[f64]) -> Self {
        const STEP: f64 = 1e-6;
        let mut x = at.to_vec();
        Self(
            (0..x.len())
                .map(|i| {
                    x[i] = at[i] + STEP;
                    let above = function(&x);
                    x[i] = at[i] - STEP;
                    let below = function(&x);
                    x[i] = at[i];
                    (above - below) / (2.0 * STEP)
                })
                .collect(),
        )
    }

    /// Asserts that `gradient` is within `tolerance` of the differences, relative to the largest of them.
    pub(crate) fn assert_close(&self, gradient: &[f32], tolerance: f64) {
        assert_eq!(self.0.len(), gradient.len());
        let size = self.0.iter().fold(1e-3f64, |m, g| m.max(g.abs()));
        for (i, (expected, &got)) in self.0.iter().zip(gradient).enumerate() {
            let error = (f64::from(got) - expected).abs() / size;
            assert!(
                error < tolerance,
                "gradient {i}: {got} instead of {expected} (off by {error:e} of {size})"
            );
        }
    }
}
