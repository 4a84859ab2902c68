//! Work on blocks of rows, several at once, each with its own part of every buffer.

use crate::aligned::Aligned;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Rows of a block, about: enough for the products to run at full speed, few enough to share out.
const BLOCK: usize = 144;

/// Rows cut into blocks. The cut depends on the number of rows alone, so that sums over blocks come out the same
/// on any number of threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowBlocks {
    rows: usize,
    size: usize,
}

impl RowBlocks {
    /// Cuts `rows` into equal blocks, an even number of them where there is enough to do.
    pub fn new(rows: usize) -> Self {
        let count = rows.div_ceil(BLOCK);
        let count = if count > 1 { count.next_multiple_of(2) } else { count.max(1) };
        // Six rows make a tile of the products.
        Self { rows, size: rows.div_ceil(count).next_multiple_of(6) }
    }

    /// All `rows` in one block.
    pub fn whole(rows: usize) -> Self {
        Self { rows, size: rows }
    }

    /// Cuts `rows` into at least as many blocks as there are threads, for work whose result the cut does not change.
    pub fn among(rows: usize, threads: usize) -> Self {
        let blocks = Self::new(rows);
        if blocks.count() >= threads { blocks } else { Self { rows, size: rows.div_ceil(threads.max(1)) } }
    }

    /// Number of blocks.
    pub fn count(self) -> usize {
        self.rows.div_ceil(self.size.max(1))
    }

    /// Rows of the largest block.
    pub fn size(self) -> usize {
        self.size.min(self.rows)
    }

    /// Rows of block `index`.
    pub fn range(self, index: usize) -> Range<usize> {
        index * self.size..((index + 1) * self.size).min(self.rows)
    }

    /// Runs `task(block, rows, parts)` for every block, in parallel; `parts` are the rows of each buffer that
    /// belong to the block.
    ///
    /// # Panics
    /// When a buffer is shorter than all rows.
    pub fn run<const N: usize>(
        self,
        buffers: [Rows<'_>; N],
        task: impl Fn(usize, Range<usize>, [&mut [f32]; N]) + Sync,
    ) {
        let buffers = buffers.map(|buffer| {
            let count = if buffer.by_block { self.count() } else { self.rows };
            assert!(count * buffer.width <= buffer.data.len(), "buffer too short for its rows");
            Shared { data: buffer.data.as_mut_ptr(), width: buffer.width, by_block: buffer.by_block }
        });
        (0..self.count()).into_par_iter().with_max_len(1).for_each(|index| {
            let rows = self.range(index);
            let parts = buffers.each_ref().map(|buffer| {
                let part = if buffer.by_block { index..index + 1 } else { rows.clone() };
                // SAFETY: ranges of different blocks do not overlap, and lie inside every buffer.
                unsafe { buffer.rows(part) }
            });
            task(index, rows, parts);
        });
    }
}

/// A buffer of rows of one width; a width of 0 is a buffer that nothing uses.
#[derive(Debug)]
pub struct Rows<'a> {
    data: &'a mut [f32],
    width: usize,
    by_block: bool,
}

impl<'a> Rows<'a> {
    /// A row-major buffer whose rows have `width` values.
    pub fn new(data: &'a mut [f32], width: usize) -> Self {
        Self { data, width, by_block: false }
    }

    /// A buffer of one row of `width` values for every block.
    pub fn by_block(data: &'a mut [f32], width: usize) -> Self {
        Self { data, width, by_block: true }
    }
}

/// A buffer that several threads write, each its own rows.
struct Shared {
    data: *mut f32,
    width: usize,
    by_block: bool,
}

// SAFETY: `RowBlocks::run` hands out rows that do not overlap.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// Rows handed out at one time must lie inside the buffer and not overlap.
    unsafe fn rows<'a>(&self, rows: Range<usize>) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe {
            std::slice::from_raw_parts_mut(self.data.add(rows.start * self.width), rows.len() * self.width)
        }
    }
}

thread_local! {
    /// Memory not in use: the last returned is that of the outermost use, so every depth finds its own again.
    static SCRATCH: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// Lends `task` scratch memory of this thread, cut into pieces of the given lengths, contents undefined. It is
/// kept, and grows to the largest use; uses within a use have memory of their own.
pub fn with_scratch<const N: usize, R>(lengths: [usize; N], task: impl FnOnce([&mut [f32]; N]) -> R) -> R {
    let mut memory = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    let total: usize = lengths.iter().map(|len| len.next_multiple_of(16)).sum();
    if memory.len() < total {
        drop(memory);
        memory = Aligned::zeros(total);
    }
    let mut rest = &mut *memory;
    let pieces = lengths.map(|len| {
        let (piece, tail) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(16));
        rest = tail;
        &mut piece[..len]
    });
    let result = task(pieces);
    SCRATCH.with_borrow_mut(|free| free.push(memory));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_tile_the_rows() {
        for rows in 0..2000 {
            let blocks = RowBlocks::new(rows);
            let ranges: Vec<_> = (0..blocks.count()).map(|i| blocks.range(i)).collect();
            assert_eq!(ranges.iter().map(Range::len).sum::<usize>(), rows);
            assert!(ranges.iter().all(|r| r.len() <= blocks.size() && !r.is_empty()));
            assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
            let shared = RowBlocks::among(rows, 3);
            assert_eq!((0..shared.count()).map(|i| shared.range(i).len()).sum::<usize>(), rows);
            assert!(shared.count() >= rows.min(2), "{rows} rows for three threads");
        }
    }

    #[test]
    fn every_row_is_visited_once_with_its_own_parts() {
        let (mut a, mut b) = (vec![0.0; 500 * 3], vec![0.0; 500]);
        RowBlocks::new(500).run([Rows::new(&mut a, 3), Rows::new(&mut b, 1)], |_, rows, [a, b]| {
            for (i, row) in rows.enumerate() {
                a[i * 3] += row as f32;
                b[i] += 1.0;
            }
        });
        assert!((0..500).all(|row| a[row * 3] == row as f32 && b[row] == 1.0));
    }

    #[test]
    fn scratch_within_scratch_does_not_overlap() {
        with_scratch([5, 7], |[a, b]| {
            a.fill(1.0);
            b.fill(2.0);
            with_scratch([12], |[c]| c.fill(3.0));
            assert!(a.iter().all(|&x| x == 1.0) && b.iter().all(|&x| x == 2.0));
        });
    }
}
