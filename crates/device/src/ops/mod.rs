//! The operations of a decoder on tensors: of each, forward and backward as pure functions, in a file of its own.
//!
//! They are written in candle's operations alone, so that they run wherever candle does; what a device has a kernel for
//! may take the place of one file's functions. The tests hold gradients against finite differences in f64, and values
//! against the kernels of the engine on the CPU.

pub(crate) mod attention;
#[cfg(test)]
pub(crate) mod check;
pub(crate) mod dora;
pub(crate) mod gated;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod lora;
pub(crate) mod norm;
pub(crate) mod rotary;
pub(crate) mod softcap;

use candle_core::{Result, Tensor};

/// a·b for matrices, or batches of them. Devices multiply matrices that lie row by row or column by column, and nothing
/// between: others are copied.
pub(crate) fn multiply(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    laid_out(a)?.matmul(&laid_out(b)?)
}

fn laid_out(matrix: &Tensor) -> Result<Tensor> {
    if matrix.is_contiguous() || matrix.t()?.is_contiguous() {
        Ok(matrix.clone())
    } else {
        matrix.contiguous()
    }
}
