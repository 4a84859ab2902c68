//! A linear layer of frozen weights: packed for each direction, or held once, quantised, for both.

use collimate_kernels::gemm::{Frozen, Into, Left, Packed, Target};
use collimate_model::LinearPlace;
use std::sync::OnceLock;

/// Rows of the identity that are multiplied at a time, to see the weights as they are held.
const PROBES: usize = 64;

/// y = x·Wᵀ + b, or several with the same input side by side.
#[derive(Debug)]
pub(super) struct Linear {
    matrix: Matrix,
    bias: Vec<f32>,
    row_squares: OnceLock<Vec<f64>>,
}

/// How W is held.
#[derive(Debug)]
pub(super) enum Matrix {
    /// Wᵀ for the forward pass, and W for the gradient where there is one.
    Packed(Packed, Option<Packed>),
    /// The matrices whose outputs stand side by side.
    Frozen(Vec<Frozen>),
}

impl Linear {
    /// A layer of this matrix, with no bias where that is empty.
    pub fn new(matrix: Matrix, bias: Vec<f32>) -> Self {
        Self { matrix, bias, row_squares: OnceLock::new() }
    }

    /// y = x·Wᵀ + b for `m` rows.
    pub fn forward(&self, m: usize, x: &[f32], y: &mut [f32]) {
        self.product(m, x, y);
        self.add_bias(y);
    }

    /// [`Linear::forward`] for a few rows, the columns shared out to the threads.
    pub fn forward_columns(&self, m: usize, x: &[f32], y: &mut [f32]) {
        self.product_columns(m, x, y);
        self.add_bias(y);
    }

    /// y = x·Wᵀ for `m` rows.
    pub fn product(&self, m: usize, x: &[f32], y: &mut [f32]) {
        match &self.matrix {
            Matrix::Packed(forward, _) => forward.apply(m, x, y, Into::Replace),
            Matrix::Frozen(parts) => side_by_side(parts, m, x, y, Frozen::forward),
        }
    }

    /// [`Linear::product`] for a few rows, the columns shared out to the threads.
    pub fn product_columns(&self, m: usize, x: &[f32], y: &mut [f32]) {
        match &self.matrix {
            Matrix::Packed(forward, _) => forward.apply_columns(m, x, y, Into::Replace),
            Matrix::Frozen(parts) => side_by_side(parts, m, x, y, Frozen::forward_columns),
        }
    }

    /// Inputs and outputs, those of all layers side by side.
    fn size(&self) -> [usize; 2] {
        match &self.matrix {
            Matrix::Packed(forward, _) => [forward.rows(), forward.columns()],
            Matrix::Frozen(parts) => {
                [parts.first().map_or(0, Frozen::inputs), parts.iter().map(Frozen::outputs).sum()]
            }
        }
    }

    /// Outputs, of all layers side by side.
    pub fn outputs(&self) -> usize {
        self.size()[1]
    }

    /// b, [outputs]; empty where there is none.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Σ w² of each row w of W as it is held, [outputs]: found by products with the identity when first asked for.
    pub fn row_squares(&self) -> &[f64] {
        self.row_squares.get_or_init(|| {
            let [inputs, outputs] = self.size();
            let mut squares = vec![0.0; outputs];
            let (mut identity, mut columns) = (vec![0.0; PROBES * inputs], vec![0.0; PROBES * outputs]);
            for start in (0..inputs).step_by(PROBES) {
                let m = PROBES.min(inputs - start);
                identity.fill(0.0);
                (0..m).for_each(|i| identity[i * inputs + start + i] = 1.0);
                let columns = &mut columns[..m * outputs];
                self.product_columns(m, &identity[..m * inputs], columns);
                for column in columns.chunks_exact(outputs) {
                    squares.iter_mut().zip(column).for_each(|(sum, &w)| *sum += f64::from(w) * f64::from(w));
                }
            }
            squares
        })
    }

    /// dx = dy·W.
    pub fn backward(&self, m: usize, dy: &[f32], dx: &mut [f32]) {
        match &self.matrix {
            Matrix::Packed(_, None) => {}
            Matrix::Packed(_, Some(backward)) => backward.apply(m, dy, dx, Into::Replace),
            Matrix::Frozen(parts) => {
                let (width, row) = (dy.len() / m.max(1), dx.len() / m.max(1));
                let (mut first, mut into) = (0, Into::Replace);
                for part in parts {
                    let dy = Left::rows(&dy[first.min(dy.len())..], width);
                    part.backward(m, dy, Target { data: &mut *dx, row }, into);
                    first += part.outputs();
                    into = Into::Add;
                }
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let matrix = match &self.matrix {
            Matrix::Packed(forward, backward) => forward.bytes() + backward.as_ref().map_or(0, Packed::bytes),
            Matrix::Frozen(parts) => parts.iter().map(Frozen::bytes).sum(),
        };
        (matrix + size_of_val(&*self.bias)) as u64
    }

    /// Takes over other weights of the same shape, unless they are frozen.
    pub fn refresh(&mut self, place: &LinearPlace, values: &[f32]) {
        if let Matrix::Packed(forward, backward) = &mut self.matrix {
            let weight = &values[place.weight.clone()];
            forward.refill_transposed(weight);
            if let Some(backward) = backward {
                backward.refill(weight);
            }
            self.bias.copy_from_slice(&values[place.bias.clone()]);
            self.row_squares = OnceLock::new();
        }
    }

    fn add_bias(&self, y: &mut [f32]) {
        if !self.bias.is_empty() {
            for row in y.chunks_exact_mut(self.bias.len()) {
                row.iter_mut().zip(&self.bias).for_each(|(y, b)| *y += b);
            }
        }
    }
}

/// The products of x with all parts, each in its columns of y.
fn side_by_side(
    parts: &[Frozen],
    m: usize,
    x: &[f32],
    y: &mut [f32],
    product: impl Fn(&Frozen, usize, Left<'_>, Target<'_>),
) {
    let (inputs, row) = (x.len() / m.max(1), parts.iter().map(Frozen::outputs).sum());
    let mut first = 0;
    for part in parts {
        let start = first.min(y.len());
        product(part, m, Left::rows(x, inputs), Target { data: &mut y[start..], row });
        first += part.outputs();
    }
}
