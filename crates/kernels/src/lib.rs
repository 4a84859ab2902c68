//! The arithmetic of a decoder on plain slices: packed products, attention over prefix trees, norms, rotary
//! embedding, gated units, soft caps, token log-probs, quantised blocks. Forward and backward, each beside its
//! plain reference.
//!
//! All `unsafe` of the project lives here. Nothing here knows of models, files or devices.
#![allow(
    unsafe_code,
    reason = "SIMD and writes to disjoint parts of one buffer; each block says why it holds"
)]

pub mod aligned;
pub mod attention;
#[cfg(test)]
mod check;
pub mod dropout;
mod dtype;
pub mod gated;
pub mod gemm;
pub mod head;
pub mod norm;
pub mod parallel;
pub mod quant;
mod quantisation;
pub mod rotary;
mod simd;
pub mod softcap;
pub mod softmax;

pub use dtype::Dtype;
pub use quantisation::Quantisation;
