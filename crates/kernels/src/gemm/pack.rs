//! A fixed right factor, repacked once into the order in which the tiles read it.

use super::integers::{GROUP_WORDS, Integers, Quantised};
use super::pairs::{Pairs, Unit, row_words};
use super::tile::{Destination, Left, Target, multiply_into};
use super::{Into, PANEL, Shared};
use crate::Dtype;
use crate::aligned::{Aligned, Word};
use crate::parallel::with_scratch;
use crate::quant::{Blocks, WrongLength};
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Lines of a panel that are used on all rows of A before the next ones: 32 kB, so that they stay in the first
/// cache.
const DEPTH: usize = 128;

/// A right factor B[k, n] in panels of 64 columns; the last panel is filled up with zeros.
#[derive(Debug, Clone)]
pub struct Packed {
    rows: usize,
    columns: usize,
    panels: Panels,
}

/// Panel after panel, line after line of 64 words.
#[derive(Debug, Clone)]
enum Panels {
    /// A line is a row.
    Float32(Aligned),
    /// A line is two rows: the lower halves of its words hold an even row, the upper halves the row after it.
    Bfloat16(Unit, Aligned<u32>),
    /// Panels of their own.
    Integers(Integers),
}

impl Packed {
    /// Packs B[k, n] = W as it stands: `weight` is row-major [k, n]. It is packed as [`Dtype::supported`] says, and in
    /// f32 where the type is that of a file's blocks, which only [`Packed::from_blocks`] takes.
    pub fn new(weight: &[f32], rows: usize, columns: usize, dtype: Dtype) -> Self {
        let mut packed = Self::zeros(rows, columns, dtype);
        packed.refill(weight);
        packed
    }

    /// Packs B[k, n] = Wᵀ: `weight` is row-major [n, k], as a linear layer stores it.
    pub fn transposed(weight: &[f32], rows: usize, columns: usize, dtype: Dtype) -> Self {
        let mut packed = Self::zeros(rows, columns, dtype);
        packed.refill_transposed(weight);
        packed
    }

    /// Takes B[k, n] = Wᵀ without loss, with the matrices of `parts`, of k columns each, one below the other as W [n, k].
    /// Where they differ in kind, all take the narrowest form that holds them.
    ///
    /// Errors: blocks that do not make whole rows.
    pub fn from_blocks(parts: &[Blocks<'_>], rows: usize) -> Result<Self, WrongLength> {
        let (integers, columns) = Integers::from_blocks(parts, rows)?;
        Ok(Self { rows, columns, panels: Panels::Integers(integers) })
    }

    fn zeros(rows: usize, columns: usize, dtype: Dtype) -> Self {
        let words = |lines: usize| columns.div_ceil(PANEL) * lines * PANEL;
        let panels = match (dtype, Unit::detect()) {
            (Dtype::Bfloat16, Some(unit)) => Panels::Bfloat16(unit, Aligned::zeros(words(rows.div_ceil(2)))),
            (Dtype::Int8, _) => Panels::Integers(Integers::zeros([rows, columns])),
            _ => Panels::Float32(Aligned::zeros(words(rows))),
        };
        Self { rows, columns, panels }
    }

    /// What [`Packed::bytes`] says of such a factor, before it is there.
    pub fn planned_bytes(rows: usize, columns: usize, dtype: Dtype) -> usize {
        let lines = match dtype.supported() {
            Dtype::Bfloat16 => rows.div_ceil(2),
            Dtype::Int8 => return Integers::planned_bytes([rows, columns]),
            Dtype::Float32 | Dtype::Gguf => rows,
        };
        columns.div_ceil(PANEL) * lines * PANEL * size_of::<f32>()
    }

    /// Packs another W of the same size, as [`Packed::new`] does, in the place of the old one.
    pub fn refill(&mut self, weight: &[f32]) {
        let (rows, columns) = (self.rows, self.columns);
        assert_eq!(weight.len(), rows * columns, "weight of another size");
        self.fill(|row, first, line| {
            let width = line.len();
            line.copy_from_slice(&weight[row * columns + first..][..width]);
        });
    }

    /// Packs another Wᵀ of the same size, as [`Packed::transposed`] does, in the place of the old one.
    pub fn refill_transposed(&mut self, weight: &[f32]) {
        let (rows, columns) = (self.rows, self.columns);
        assert_eq!(weight.len(), rows * columns, "weight of another size");
        self.fill(|row, first, line| {
            for (j, value) in line.iter_mut().enumerate() {
                *value = weight[(first + j) * rows + row];
            }
        });
    }

    /// `read(row, column, line)` writes what stands in a row from a column on.
    fn fill(&mut self, read: impl Fn(usize, usize, &mut [f32]) + Sync) {
        let (rows, columns) = (self.rows, self.columns);
        let width = |panel: usize| (columns - panel * PANEL).min(PANEL);
        match &mut self.panels {
            Panels::Bfloat16(_, words) => fill_words(words, rows.div_ceil(2), |panel, line, words| {
                let mut pair = [[0.0; PANEL]; 2];
                for (row, values) in (2 * line..rows).zip(&mut pair) {
                    read(row, panel * PANEL, &mut values[..width(panel)]);
                }
                for (word, (low, high)) in words.iter_mut().zip(pair[0].iter().zip(&pair[1])) {
                    let [low, high] = [low, high].map(|&x| u32::from(bf16::from_f32(x).to_bits()));
                    *word = low | high << 16;
                }
            }),
            Panels::Float32(words) => fill_words(words, rows, |panel, row, words| {
                read(row, panel * PANEL, &mut words[..width(panel)]);
            }),
            Panels::Integers(integers) => integers.round([rows, columns], read),
        }
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
        match &self.panels {
            Panels::Float32(words) => size_of_val(&**words),
            Panels::Bfloat16(_, words) => size_of_val(&**words),
            Panels::Integers(integers) => integers.bytes(),
        }
    }

    /// Copies a column of B, which is a row of the W that was packed transposed, into `out`, of length k.
    pub fn read_column(&self, column: usize, out: &mut [f32]) {
        let (panel, lane) = (column / PANEL, column % PANEL);
        match &self.panels {
            Panels::Float32(words) => {
                let lines = words[panel * self.rows * PANEL..].chunks_exact(PANEL);
                out.iter_mut().zip(lines).for_each(|(out, line)| *out = line[lane]);
            }
            Panels::Bfloat16(_, words) => {
                let lines = words[panel * self.rows.div_ceil(2) * PANEL..].chunks_exact(PANEL);
                for (out, line) in out.chunks_mut(2).zip(lines) {
                    let halves = [line[lane] as u16, (line[lane] >> 16) as u16];
                    out.iter_mut().zip(halves).for_each(|(out, half)| *out = bf16::from_bits(half).to_f32());
                }
            }
            Panels::Integers(integers) => integers.read_column(column, out),
        }
    }

    /// C[m, columns] (+)= A[m, rows] · B[rows, columns], where `rows` and `columns` cut B.
    ///
    /// `columns` starts at a multiple of [`Packed::STEP`], `rows` at an even one; of integers all rows are used. A has
    /// `rows.len()` columns, its rows are contiguous, and C's first column is the first of `columns`.
    pub fn multiply(&self, m: usize, a: Left<'_>, part: Part, c: Target<'_>, into: Into) {
        assert!(m == 0 || (m - 1) * c.row + part.columns.len() <= c.data.len(), "product outside its target");
        let c = Destination { data: c.data.as_mut_ptr(), row: c.row };
        self.with_factors([m, part.rows.len()], a, |factors| {
            // SAFETY: the target was just checked, and is borrowed exclusively.
            unsafe { self.multiply_into(m, factors, &part, c, into) }
        });
    }

    /// Calls `work` with A[m, k] as the panels want it, and the panels.
    fn with_factors(&self, [m, k]: [usize; 2], a: Left<'_>, work: impl FnOnce(Factors<'_>)) {
        match &self.panels {
            Panels::Float32(words) => work(Factors::Float32(a, words)),
            Panels::Bfloat16(unit, words) => with_scratch([m * row_words(k)], |[space]| {
                work(Factors::Bfloat16(*unit, unit.convert([m, k], a, space), words));
            }),
            Panels::Integers(integers) => {
                let form = integers.form();
                let groups = m * k.div_ceil(form.group);
                with_scratch([groups * form.group / 4, groups * GROUP_WORDS], |space| {
                    work(Factors::Integers(Quantised::new(form, [m, k], a, space), integers));
                });
            }
        }
    }

    /// [`Packed::multiply`] into a raw destination.
    ///
    /// # Safety
    /// As for [`multiply_into`].
    unsafe fn multiply_into(&self, m: usize, factors: Factors<'_>, part: &Part, c: Destination, into: Into) {
        assert!(part.rows.end <= self.rows && part.columns.end <= self.columns, "outside the packed factor");
        assert!(part.columns.start.is_multiple_of(PANEL), "columns must start with a panel");
        assert!(part.rows.start.is_multiple_of(2), "rows must start with a pair");
        let rows = &part.rows;
        let (total, lines) = match factors {
            Factors::Float32(..) => (self.rows, rows.clone()),
            Factors::Bfloat16(..) => (self.rows.div_ceil(2), rows.start / 2..rows.end.div_ceil(2)),
            Factors::Integers(a, integers) => {
                assert_eq!(*rows, 0..self.rows, "integers are multiplied over whole columns");
                // SAFETY: the caller's promise.
                return unsafe { integers.multiply(m, a, part.columns.clone(), c, into) };
            }
        };
        for column in part.columns.clone().step_by(PANEL) {
            let width = (part.columns.end - column).min(PANEL);
            let (mut start, mut into) = (lines.start, into);
            loop {
                let end = (start + DEPTH).min(lines.end);
                let (first, panel) = (start - lines.start, column / PANEL * total);
                let words = (panel + start) * PANEL..(panel + end) * PANEL;
                // SAFETY: columns column to column + width of C are the caller's.
                unsafe {
                    let c = Destination { data: c.data.add(column - part.columns.start), row: c.row };
                    match factors {
                        Factors::Float32(a, panels) => {
                            let a = Left { data: &a.data[first.min(a.data.len())..], ..a };
                            multiply_into([m, width, end - start], a, (&panels[words], PANEL), c, into);
                        }
                        Factors::Bfloat16(unit, a, panels) => {
                            unit.multiply([m, width], (a, first), &panels[words], c, into);
                        }
                        Factors::Integers(..) => {}
                    }
                }
                into = Into::Add;
                start = end;
                if start >= lines.end {
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
        self.with_factors([m, self.rows], Left::rows(a, self.rows), |factors| {
            (0..self.columns.div_ceil(step)).into_par_iter().for_each(|task| {
                let columns = task * step..((task + 1) * step).min(self.columns);
                // SAFETY: tasks write columns that do not overlap, inside the target.
                unsafe {
                    let c = Destination { data: c.at(columns.start), row: self.columns };
                    self.multiply_into(m, factors, &Part { rows: 0..self.rows, columns }, c, into);
                }
            });
        });
    }

    /// All of B.
    pub fn whole(&self) -> Part {
        Part { rows: 0..self.rows, columns: 0..self.columns }
    }

    /// Cuts of columns fall on multiples of this.
    pub const STEP: usize = PANEL;
}

/// Writes the words of all panels, each line by `write(panel, line, words)`.
fn fill_words<T: Word + Send>(words: &mut [T], lines: usize, write: impl Fn(usize, usize, &mut [T]) + Sync) {
    words.par_chunks_mut((lines * PANEL).max(1)).enumerate().for_each(|(panel, words)| {
        for (line, words) in words.chunks_exact_mut(PANEL).enumerate() {
            write(panel, line, words);
        }
    });
}

/// Both factors of a product, in one type.
#[derive(Clone, Copy)]
enum Factors<'a> {
    Float32(Left<'a>, &'a [f32]),
    Bfloat16(Unit, Pairs<'a>, &'a [u32]),
    Integers(Quantised<'a>, &'a Integers),
}

/// A rectangle of a packed factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Rows of B that are used; the first is even.
    pub rows: Range<usize>,
    /// Columns of B that are used.
    pub columns: Range<usize>,
}
