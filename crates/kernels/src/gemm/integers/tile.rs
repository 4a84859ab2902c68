//! The product of a panel: bounds, the choice of instructions, and the plain loop for every machine.

use super::pack::{Integers, Panel, place};
use super::{PANEL, Quantised};
use crate::gemm::Into;
use crate::gemm::tile::Destination;
use crate::simd::vectorised;
use std::ops::Range;

/// Columns whose sums stay in registers.
const LANES: usize = 16;
/// Rows of A that share the integers of B once these are taken apart.
const ROWS: usize = 4;

impl Integers {
    /// C[m, columns] (+)= A · B for columns that start with a panel.
    ///
    /// # Safety
    /// As for [`crate::gemm::multiply_into`].
    pub unsafe fn multiply(
        &self,
        m: usize,
        a: Quantised<'_>,
        columns: Range<usize>,
        c: Destination,
        into: Into,
    ) {
        for column in columns.clone().step_by(PANEL) {
            // SAFETY: columns of C from the first on are the caller's.
            let data = unsafe { c.data.add(column - columns.start) };
            let n = (columns.end - column).min(PANEL);
            let product =
                Product::new([m, n], a, self.panel(column / PANEL), Destination { data, ..c }, into);
            // SAFETY: the product lies in the caller's part of C.
            unsafe { product.run() }
        }
    }
}

/// One product with its bounds checked.
pub(super) struct Product<'a> {
    pub m: usize,
    /// Columns of C that are written, up to [`PANEL`].
    pub n: usize,
    pub a: Quantised<'a>,
    pub b: Panel<'a>,
    pub c: Destination,
    pub into: Into,
}

impl<'a> Product<'a> {
    fn new([m, n]: [usize; 2], a: Quantised<'a>, b: Panel<'a>, c: Destination, into: Into) -> Self {
        let groups = b.layout.groups;
        let fits = m * groups <= a.groups.len() && m * groups * b.layout.form.group <= a.bytes.len();
        assert!(fits && n <= PANEL, "factors do not fit");
        Self { m, n, a, b, c, into }
    }

    /// # Safety
    /// All m rows of n columns of C are valid for writes, and nothing else touches them meanwhile.
    unsafe fn run(&self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = super::vnni::Unit::detect() {
            // SAFETY: the caller's promise.
            return unsafe { unit.run(self) };
        } else if let Some(unit) = super::avx2::Unit::detect() {
            // SAFETY: the caller's promise.
            return unsafe { unit.run(self) };
        }
        // SAFETY: the caller's promise.
        unsafe { self.plain() }
    }

    /// # Safety
    /// As for [`Product::run`].
    unsafe fn plain(&self) {
        vectorised(
            #[inline(always)]
            || {
                let mut i = 0;
                while i < self.m {
                    let rows = if self.m - i >= ROWS { ROWS } else { 1 };
                    for first in (0..self.n).step_by(LANES) {
                        // SAFETY: the rows lie inside the product; the caller's promise.
                        unsafe {
                            match (self.b.layout.form.bits, rows) {
                                (4, ROWS) => self.tile::<4, ROWS>(i, first),
                                (4, _) => self.tile::<4, 1>(i, first),
                                (_, ROWS) => self.tile::<8, ROWS>(i, first),
                                _ => self.tile::<8, 1>(i, first),
                            }
                        }
                    }
                    i += rows;
                }
            },
        );
    }

    /// M rows from row i on of the columns of one vector from column `first` on.
    ///
    /// # Safety
    /// As for [`Product::run`], and the rows lie inside the product.
    #[inline(always)]
    unsafe fn tile<const BITS: usize, const M: usize>(&self, i: usize, first: usize) {
        let width = (self.n - first).min(LANES);
        // SAFETY: the tile's columns lie inside the product, and C is the caller's.
        let mut c: [&mut [f32]; M] = std::array::from_fn(|r| unsafe {
            std::slice::from_raw_parts_mut(self.c.data.add((i + r) * self.c.row + first), width)
        });
        let mut sums = [[0.0f32; LANES]; M];
        if self.into == Into::Add {
            sums.iter_mut().zip(&c).for_each(|(sum, c)| sum[..width].copy_from_slice(c));
        }
        let (form, groups) = (self.b.layout.form, self.b.layout.groups);
        for group in 0..groups {
            let row = |r: usize| (i + r) * groups + group;
            let left: [&[i8]; M] =
                std::array::from_fn(|r| &self.a.bytes[row(r) * form.group..][..form.group]);
            let words = &self.b.words[group * form.group / (32 / BITS) * PANEL..];
            let mut exact: [[i32; LANES]; M] =
                std::array::from_fn(|r| [self.a.groups[row(r)][1].to_bits().cast_signed(); LANES]);
            for k in 0..form.group {
                let (line, shift) = place(form, k);
                let words = &words[line * PANEL + first..][..LANES];
                let right: [i32; LANES] =
                    std::array::from_fn(|l| (words[l] >> shift & ((1 << BITS) - 1)).cast_signed());
                for (exact, left) in exact.iter_mut().zip(left) {
                    let left = i32::from(left[k]);
                    exact.iter_mut().zip(right).for_each(|(exact, right)| *exact += left * right);
                }
            }
            let scales = self.b.scales(group);
            for (r, (sum, exact)) in sums.iter_mut().zip(&exact).enumerate() {
                let [scale, _, weighted] = self.a.groups[row(r)];
                for (l, (sum, &exact)) in sum.iter_mut().zip(exact).enumerate() {
                    *sum = (exact as f32).mul_add(scale * scales[first + l], *sum);
                    if form.minima {
                        *sum = weighted.mul_add(scales[PANEL + first + l], *sum);
                    }
                }
            }
        }
        c.iter_mut().zip(&sums).for_each(|(c, sum)| c.copy_from_slice(&sum[..width]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::values;
    use crate::gemm::integers::GROUP_WORDS;
    use crate::gemm::integers::tests::blocks;
    use crate::gemm::tile::Left;
    use crate::quant::{BlockKind, Blocks};

    #[test]
    fn all_instructions_give_the_bits_of_the_plain_loop() {
        let (m, n, k) = (11, 50, 512);
        let a = values(m * k, 1);
        let mut factors: Vec<Integers> = BlockKind::ALL
            .into_iter()
            .map(|kind| {
                let bytes = blocks(kind, n * k / kind.block_len(), 2);
                Integers::from_blocks(&[Blocks { kind, bytes: &bytes }], k).unwrap().0
            })
            .collect();
        let weight = values(k * n, 3);
        let mut int8 = Integers::zeros([k, n]);
        int8.round([k, n], |row, first, out| {
            let width = out.len();
            out.copy_from_slice(&weight[row * n + first..][..width]);
        });
        factors.push(int8);
        for factor in factors {
            let form = factor.form();
            let (mut bytes, mut groups) = (vec![0.0; m * k / 4], vec![0.0; m * k / form.group * GROUP_WORDS]);
            let a = Quantised::new(form, [m, k], Left::rows(&a, k), [&mut bytes, &mut groups]);
            for (panel, n) in [(0, PANEL), (1, n - PANEL)] {
                for into in [Into::Replace, Into::Add] {
                    let by = |run: &dyn Fn(&Product<'_>)| {
                        let mut c = vec![0.5; m * n];
                        let target = Destination { data: c.as_mut_ptr(), row: n };
                        run(&Product::new([m, n], a, factor.panel(panel), target, into));
                        c
                    };
                    // SAFETY, here and below: `c` has m rows of n values.
                    let plain = by(&|product| unsafe { product.plain() });
                    assert_eq!(by(&|product| unsafe { product.run() }), plain, "{form:?} {into:?}");
                    #[cfg(target_arch = "x86_64")]
                    if let Some(unit) = super::super::avx2::Unit::detect() {
                        let avx2 = by(&|product| unsafe { unit.run(product) });
                        assert_eq!(avx2, plain, "{form:?} {into:?} by AVX2");
                    }
                }
            }
        }
    }
}
