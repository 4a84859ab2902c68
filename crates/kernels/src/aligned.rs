//! Memory that starts on a cache line.

use std::ops::{Deref, DerefMut};

/// What can fill a line without padding: 4 bytes.
pub trait Word: Copy + Default {}

impl Word for f32 {}
impl Word for u32 {}

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line<T>([T; 16]);

/// A fixed number of words, zero at first, aligned to 64 bytes.
#[derive(Debug, Clone, Default)]
pub struct Aligned<T: Word = f32> {
    lines: Vec<Line<T>>,
    len: usize,
}

impl<T: Word> Aligned<T> {
    /// Nothing.
    pub const EMPTY: Self = Self { lines: Vec::new(), len: 0 };

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([T::default(); 16]); len.div_ceil(16)], len }
    }
}

impl<T: Word> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: a line is 16 words without padding, and `len` is at most 16 times the number of lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Word> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
