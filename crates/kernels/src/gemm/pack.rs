//! A fixed right factor, repacked once into the order in which the tiles read it.

use super::Into;
use super::tile::{Destination, Left, Target, multiply_into};
use crate::aligned::Aligned;
use rayon::prelude::*;
use std::ops::Range;

/// Columns of one panel: four vectors of 16, and a multiple of what narrower machines take.
const PANEL: usize = 64;
/// Rows of a panel that are used on all rows of A before the next ones: 32 kB, so that they stay in the first
/// cache.
const DEPTH: usize = 128;

/// A right factor B[k, n] in panels of 64 columns; the last panel is filled up with zeros.
#[derive(Debug, Clone)]
pub struct Packed {
    rows: usize,
    columns: usize,
    panels: Aligned,
}

impl Packed {
    /// Packs B[k, n] = W as it stands: `weight` is row-major [k, n].
    pub fn new(weight: &[f32], rows: usize, columns: usize) -> Self {
        assert_eq!(weight.len(), rows * columns, "weight of another size");
        Self::fill(rows, columns, |row, first, line| {
            let width = line.len();
            line.copy_from_slice(&weight[row * columns + first..][..width]);
        })
    }

    /// Packs B[k, n] = Wᵀ: `weight` is row-major [n, k], as a linear layer stores it.
    pub fn transposed(weight: &[f32], rows: usize, columns: usize) -> Self {
        assert_eq!(weight.len(), rows * columns, "weight of another size");
        Self::fill(rows, columns, |row, first, line| {
            for (j, value) in line.iter_mut().enumerate() {
                *value = weight[(first + j) * rows + row];
            }
        })
    }

    fn fill(rows: usize, columns: usize, read: impl Fn(usize, usize, &mut [f32]) + Sync) -> Self {
        let mut panels = Aligned::zeros(columns.div_ceil(PANEL) * rows * PANEL);
        panels.par_chunks_mut((rows * PANEL).max(1)).enumerate().for_each(|(panel, values)| {
            let width = (columns - panel * PANEL).min(PANEL);
            for (row, line) in values.chunks_exact_mut(PANEL).enumerate() {
                read(row, panel * PANEL, &mut line[..width]);
            }
        });
        Self { rows, columns, panels }
    }

    /// The inner dimension k.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The outer dimension n.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.panels)
    }

    /// Copies row `row` of B into `out`, of length n.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        for (panel, out) in out.chunks_mut(PANEL).enumerate() {
            let width = out.len();
            out.copy_from_slice(&self.panel(panel)[row * PANEL..][..width]);
        }
    }

    fn panel(&self, panel: usize) -> &[f32] {
        &self.panels[panel * self.rows * PANEL..][..self.rows * PANEL]
    }

    /// C[m, columns] (+)= A[m, rows] · B[rows, columns], where `rows` and `columns` cut B.
    ///
    /// `columns` starts at a multiple of [`Packed::STEP`]. A has `rows.len()` columns, and C's first column is
    /// the first of `columns`.
    pub fn multiply(&self, m: usize, a: Left<'_>, part: Part, c: Target<'_>, into: Into) {
        assert!(m == 0 || (m - 1) * c.row + part.columns.len() <= c.data.len(), "product outside its target");
        let c = Destination { data: c.data.as_mut_ptr(), row: c.row };
        // SAFETY: the target was just checked, and is borrowed exclusively.
        unsafe { self.multiply_into(m, a, part, c, into) }
    }

    /// [`Packed::multiply`] into a raw destination.
    ///
    /// # Safety
    /// As for [`multiply_into`].
    unsafe fn multiply_into(&self, m: usize, a: Left<'_>, part: Part, c: Destination, into: Into) {
        assert!(part.rows.end <= self.rows && part.columns.end <= self.columns, "outside the packed factor");
        assert!(part.columns.start.is_multiple_of(PANEL), "columns must start with a panel");
        for column in part.columns.clone().step_by(PANEL) {
            let width = (part.columns.end - column).min(PANEL);
            let panel = self.panel(column / PANEL);
            let mut into = into;
            let mut row = part.rows.start;
            loop {
                let depth = (part.rows.end - row).min(DEPTH);
                let left =
                    Left { data: &a.data[((row - part.rows.start) * a.column).min(a.data.len())..], ..a };
                // SAFETY: columns column to column + width of C are the caller's.
                unsafe {
                    let c = Destination { data: c.data.add(column - part.columns.start), row: c.row };
                    multiply_into([m, width, depth], left, (&panel[row * PANEL..], PANEL), c, into);
                }
                into = Into::Add;
                row += depth;
                if row >= part.rows.end {
                    break;
                }
            }
        }
    }

    /// C[m, n] (+)= A[m, k] · B with rows of A and C contiguous.
    pub fn apply(&self, m: usize, a: &[f32], c: &mut [f32], into: Into) {
        let part = self.whole();
        self.multiply(m, Left::rows(a, self.rows), part, Target { data: c, row: self.columns }, into);
    }

    /// [`Packed::apply`] for a few rows, as in decoding: the columns are shared out to the threads.
    pub fn apply_columns(&self, m: usize, a: &[f32], c: &mut [f32], into: Into) {
        assert!(m * self.columns <= c.len(), "product outside its target");
        let c = Shared(c.as_mut_ptr());
        // Enough panels a task that the left factor is not read too often, few enough to share out.
        let step = 4 * PANEL;
        (0..self.columns.div_ceil(step)).into_par_iter().for_each(|task| {
            let columns = task * step..((task + 1) * step).min(self.columns);
            // SAFETY: tasks write columns that do not overlap, inside the target.
            unsafe {
                let c = Destination { data: c.at(columns.start), row: self.columns };
                let part = Part { rows: 0..self.rows, columns };
                self.multiply_into(m, Left::rows(a, self.rows), part, c, into);
            }
        });
    }

    /// All of B.
    pub fn whole(&self) -> Part {
        Part { rows: 0..self.rows, columns: 0..self.columns }
    }

    /// Cuts of columns fall on multiples of this.
    pub const STEP: usize = PANEL;
}

/// A target whose columns are written by several threads.
struct Shared(*mut f32);

// SAFETY: `apply_columns` hands out columns that do not overlap.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// As for pointer arithmetic: inside the target.
    unsafe fn at(&self, column: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(column) }
    }
}

/// A rectangle of a packed factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Rows of B that are used.
    pub rows: Range<usize>,
    /// Columns of B that are used.
    pub columns: Range<usize>,
}
