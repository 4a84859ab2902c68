//! Work that cannot say how it gets on.

use std::sync::atomic::{AtomicUsize, Ordering};

/// As long as it is kept, the worker is at something long that shows no progress, such as one large file.
#[derive(Debug, Default)]
pub struct Busy<'a>(Option<&'a AtomicUsize>);

impl<'a> Busy<'a> {
    /// Counts in `count` how many are kept.
    pub fn counted_in(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Some(count))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
