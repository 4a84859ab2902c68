//! Products in bf16 on machines that have no instruction for them: there are none.

use super::Into;
use super::tile::{Destination, Left};

/// What such a machine never has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {}

/// A left factor that is never made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs<'a>(std::marker::PhantomData<&'a ()>);

/// Words in a row of a converted left factor.
pub(super) fn row_words(k: usize) -> usize {
    k.div_ceil(2)
}

impl Unit {
    pub(super) fn detect() -> Option<Self> {
        None
    }

    pub(super) fn convert(self, _: [usize; 2], _: Left<'_>, _: &mut [f32]) -> Pairs<'_> {
        match self {}
    }

    /// # Safety
    /// There is no such product.
    pub(super) unsafe fn multiply(
        self,
        _: [usize; 2],
        _: (Pairs<'_>, usize),
        _: &[u32],
        _: Destination,
        _: Into,
    ) {
        match self {}
    }
}
