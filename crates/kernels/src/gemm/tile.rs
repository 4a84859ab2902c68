//! The register tile: up to 6 rows of A against 4 vectors of columns of B.

use super::Into;
use pulp::{Simd, WithSimd};

/// Rows of A that one tile takes.
const ROWS: usize = 6;
/// Vectors of columns that one tile takes: 6 × 4 accumulators, 4 of B and one of A fill 32 registers.
const VECTORS: usize = 4;
/// The same where there are but 16 registers, as with AVX2.
const FEW_VECTORS: usize = 2;

/// The left factor A: element (i, k) stands at `data[i * row + k * column]`.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub column: usize,
}

impl<'a> Left<'a> {
    /// A matrix whose rows are contiguous and stand `row` apart.
    pub fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, column: 1 }
    }

    /// The transpose of a matrix whose rows are contiguous and stand `row` apart.
    pub fn transposed(data: &'a [f32], row: usize) -> Self {
        Self { data, row: 1, column: row }
    }
}

/// The product C: a raw view, since columns of one matrix are written by several threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination {
    pub data: *mut f32,
    pub row: usize,
}

/// C: element (i, j) stands at `data[i * row + j]`.
#[derive(Debug)]
pub struct Target<'a> {
    /// The elements.
    pub data: &'a mut [f32],
    /// Distance between rows.
    pub row: usize,
}

/// C[m, n] (+)= A[m, k] · B[k, n], where row k of B starts at `b[k * b_row]`.
///
/// # Panics
/// When a factor is shorter than the sizes say.
pub fn multiply(size: [usize; 3], a: Left<'_>, b: (&[f32], usize), c: Target<'_>, into: Into) {
    let [m, n, _] = size;
    assert!(m == 0 || n == 0 || (m - 1) * c.row + n <= c.data.len(), "product outside its target");
    // SAFETY: the target was just checked, and is borrowed exclusively.
    unsafe { multiply_into(size, a, b, Destination { data: c.data.as_mut_ptr(), row: c.row }, into) }
}

/// [`multiply`] into a raw destination.
///
/// # Safety
/// Every element (i, j) of the destination must be valid for writes, and nothing else may touch it meanwhile.
pub(crate) unsafe fn multiply_into(
    size: [usize; 3],
    a: Left<'_>,
    b: (&[f32], usize),
    c: Destination,
    into: Into,
) {
    let [m, n, k] = size;
    if m == 0 || n == 0 {
        return;
    }
    if k > 0 {
        assert!((m - 1) * a.row + (k - 1) * a.column < a.data.len(), "left factor too short");
        assert!((k - 1) * b.1 + n <= b.0.len(), "right factor too short");
    }
    let (a, a_row, a_column) = (a.data.as_ptr(), a.row, a.column);
    let product = Product { m, n, k, a, a_row, a_column, b: b.0.as_ptr(), b_row: b.1, c, into };
    pulp::Arch::new().dispatch(product);
}

/// One product with its bounds checked.
struct Product {
    m: usize,
    n: usize,
    k: usize,
    a: *const f32,
    a_row: usize,
    a_column: usize,
    b: *const f32,
    b_row: usize,
    c: Destination,
    into: Into,
}

impl WithSimd for Product {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // SAFETY: the bounds of all three matrices were checked in `multiply_into`.
        unsafe {
            let mut j = 0;
            let vectors = if S::REGISTER_COUNT >= 32 { VECTORS } else { FEW_VECTORS };
            while j + vectors * S::F32_LANES <= self.n {
                if vectors == VECTORS {
                    self.columns::<S, VECTORS>(simd, j);
                } else {
                    self.columns::<S, FEW_VECTORS>(simd, j);
                }
                j += vectors * S::F32_LANES;
            }
            while j + S::F32_LANES <= self.n {
                self.columns::<S, 1>(simd, j);
                j += S::F32_LANES;
            }
            while j < self.n {
                self.column(j);
                j += 1;
            }
        }
    }
}

impl Product {
    /// All rows of V vectors of columns from column j on.
    #[inline(always)]
    unsafe fn columns<S: Simd, const V: usize>(&self, simd: S, j: usize) {
        let mut i = 0;
        while i < self.m {
            let rows = (self.m - i).min(ROWS);
            // SAFETY: rows i to i + rows and columns j to j + V × lanes lie inside the product.
            unsafe {
                match rows {
                    6 => self.tile::<S, 6, V>(simd, i, j),
                    5 => self.tile::<S, 5, V>(simd, i, j),
                    4 => self.tile::<S, 4, V>(simd, i, j),
                    3 => self.tile::<S, 3, V>(simd, i, j),
                    2 => self.tile::<S, 2, V>(simd, i, j),
                    _ => self.tile::<S, 1, V>(simd, i, j),
                }
            }
            i += rows;
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const V: usize>(&self, simd: S, i: usize, j: usize) {
        // SAFETY: the caller keeps the tile inside the product, whose bounds were checked.
        unsafe {
            let a = self.a.add(i * self.a_row);
            let b = self.b.add(j);
            let c = self.c.data.add(i * self.c.row + j);
            let mut sum = [[simd.splat_f32s(0.0); V]; M];
            if self.into == Into::Add {
                for (r, row) in sum.iter_mut().enumerate() {
                    for (v, lane) in row.iter_mut().enumerate() {
                        *lane = c.add(r * self.c.row + v * S::F32_LANES).cast::<S::f32s>().read_unaligned();
                    }
                }
            }
            // Each of four tiles asks for one line in four of the rows of B that come next.
            let line = i / ROWS % VECTORS * S::F32_LANES;
            for k in 0..self.k {
                let b = b.add(k * self.b_row);
                if V > 1 {
                    prefetch(b.wrapping_add(self.k * self.b_row + line));
                }
                let mut right = [simd.splat_f32s(0.0); V];
                for (v, lane) in right.iter_mut().enumerate() {
                    *lane = b.add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned();
                }
                for (r, row) in sum.iter_mut().enumerate() {
                    let left = simd.splat_f32s(*a.add(r * self.a_row + k * self.a_column));
                    for (lane, &right) in row.iter_mut().zip(&right) {
                        *lane = simd.mul_add_f32s(left, right, *lane);
                    }
                }
            }
            for (r, row) in sum.iter().enumerate() {
                for (v, &lane) in row.iter().enumerate() {
                    c.add(r * self.c.row + v * S::F32_LANES).cast::<S::f32s>().write_unaligned(lane);
                }
            }
        }
    }

    /// All rows of the single column j: the same chain, one element at a time.
    #[inline(always)]
    unsafe fn column(&self, j: usize) {
        for i in 0..self.m {
            // SAFETY: as for `tile`.
            unsafe {
                let c = self.c.data.add(i * self.c.row + j);
                let mut sum = if self.into == Into::Add { *c } else { 0.0 };
                for k in 0..self.k {
                    let left = *self.a.add(i * self.a_row + k * self.a_column);
                    sum = left.mul_add(*self.b.add(k * self.b_row + j), sum);
                }
                *c = sum;
            }
        }
    }
}

/// Asks for the cache line at `address` ahead of its use; any address will do.
#[inline(always)]
fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch touches nothing that a program can see.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::values;

    /// Runs the same product on this machine's best vectors and through `run`.
    fn compare(run: impl Fn(Product)) {
        for [m, n, k] in [[13, 150, 40], [6, 64, 128], [5, 17, 9]] {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let (mut expected, mut got) = (vec![0.5; m * n], vec![0.5; m * n]);
            let target = Target { data: &mut expected, row: n };
            multiply([m, n, k], Left::rows(&a, k), (&b, n), target, Into::Add);
            let c = Destination { data: got.as_mut_ptr(), row: n };
            let (a, b) = (a.as_ptr(), b.as_ptr());
            run(Product { m, n, k, a, a_row: k, a_column: 1, b, b_row: n, c, into: Into::Add });
            assert_eq!(got, expected, "{m} x {n} x {k}");
        }
    }

    #[test]
    fn without_vectors_the_bits_are_the_same() {
        compare(|product| product.with_simd(pulp::Scalar::new()));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn with_avx2_the_bits_are_the_same() {
        let Some(simd) = pulp::x86::V3::try_new() else {
            eprintln!("skipped: this machine has no AVX2");
            return;
        };
        compare(|product| Simd::vectorize(simd, product));
    }
}
