//! A decoder on a device: forward and backward over packed prefix trees, prefill and decode.
//!
//! Uses the kernels and the description of the model; may touch device memory, and no files but the model's.

mod batch;
pub mod check;
mod cost;
mod cpu;
mod engine;
mod error;

pub use batch::{Batch, Target};
pub use collimate_kernels::attention::Segment;
pub use collimate_kernels::{Dtype, Quantisation};
pub use cost::cost;
pub use cpu::{CpuEngine, CpuOptions, Decoder, Described, MemoryPlan, Sequence, Span, TrainedSizes};
pub use engine::{Dropout, Engine, Scores};
pub use error::{Error, Result};
