//! A decoder on CUDA, on Metal or on the CPU: the trait `Engine` on candle's tensors, operation by operation.
//!
//! Forward and backward are written out by hand, as in the engine on the CPU: candle's own differentiation is not used, so
//! that frozen weights cost no gradient, and nothing below the lowest trained layer is walked. Uses the kernels' plans and
//! tables, the description of the model, and the trait; may touch device memory, and no files but the model's.

mod adapter;
mod backward;
mod batch;
mod engine;
mod forward;
mod group;
mod ops;
mod options;
mod rotary;
mod trained;
mod weights;

pub use engine::DeviceEngine;
pub use options::{Device, DeviceOptions};
