//! Seeded draws: CPython's generator for splits that must agree with Python, and keyed streams for all else.

mod counter;
mod mersenne;

pub use counter::{Stream, stream};
pub use mersenne::MersenneTwister;
