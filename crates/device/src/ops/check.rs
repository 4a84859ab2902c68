//! What the tests of operations share: tensors to work on, and finite differences to hold gradients against.

use candle_core::{DType, Device, Result, Tensor};

/// Deterministic numbers in [-1, 1], in f32.
pub(crate) fn tensor(shape: &[usize], seed: u64) -> Result<Tensor> {
    let value = |i: usize| ((i + 1).pow(2) as f64 * (0.37 + 0.11 * seed as f64)).sin() as f32;
    Tensor::from_vec((0..shape.iter().product()).map(value).collect(), shape, &Device::Cpu)
}

/// All numbers of a tensor, row by row.
pub(crate) fn host(x: &Tensor) -> Result<Vec<f32>> {
    x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// What the output of an operation is multiplied with to make one number of it.
pub(crate) fn weights(like: &Tensor, seed: u64) -> Result<Tensor> {
    tensor(like.dims(), seed)?.to_dtype(like.dtype())
}

/// Σ w · y with [`weights`] for w: a loss whose gradient by y is w.
pub(crate) fn weighed(y: &Tensor, seed: u64) -> Result<f64> {
    (y * weights(y, seed)?)?.sum_all()?.to_dtype(DType::F64)?.to_scalar()
}

/// Asserts that no number is further from the expected one than `tolerance` times the largest of them, or 1.
pub(crate) fn assert_near(got: &Tensor, expected: &[f32], tolerance: f64) -> Result<()> {
    let got = host(got)?;
    assert_eq!(got.len(), expected.len());
    let size = expected.iter().fold(1.0f64, |size, &x| size.max(f64::from(x).abs()));
    for (i, (&a, &b)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(a) - f64::from(b)).abs();
        assert!(error <= tolerance * size, "value {i}: {a} instead of {b}");
    }
    Ok(())
}

/// Asserts that in f64 the gradient of [`weighed`] outputs, weighed with seed 2, is that of central differences.
/// `gradient` gets the input, and what gives the gradient by an output.
pub(crate) fn assert_slopes(
    x: &Tensor,
    loss: impl Fn(&Tensor) -> Result<f64>,
    gradient: impl Fn(&Tensor, &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor>,
) -> Result<()> {
    const STEP: f64 = 1e-6;
    let x = x.to_dtype(DType::F64)?;
    let got: Vec<f64> = gradient(&x, &|y| weights(y, 2))?.flatten_all()?.to_vec1()?;
    let values: Vec<f64> = x.flatten_all()?.to_vec1()?;
    let at = |i: usize, step: f64| {
        let mut moved = values.clone();
        moved[i] += step;
        loss(&Tensor::from_vec(moved, x.dims(), &Device::Cpu)?)
    };
    assert_eq!(got.len(), values.len());
    for (i, got) in got.iter().enumerate() {
        let expected = (at(i, STEP)? - at(i, -STEP)?) / (2.0 * STEP);
        assert!((got - expected).abs() < 1e-6 * expected.abs().max(1.0), "slope {i}: {got}, not {expected}");
    }
    Ok(())
}
