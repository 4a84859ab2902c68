//! The principal part of a weight: its largest singular values with their vectors, and the A and B that make it up.

use collimate_run::random::Stream;
use faer::Mat;
use faer::linalg::solvers::Svd;

use super::LoraSlot;
use super::initialisation::InitLoraWeights;
use crate::output_heads::normal;

/// The part of a weight W that its largest singular values make up, U·diag(s)·Vᵀ.
pub(super) struct Principal {
    /// Left vectors, `[outputs, rank]`.
    u: Mat<f64>,
    /// Singular values, the largest first.
    s: Vec<f64>,
    /// Right vectors, `[inputs, rank]`.
    v: Mat<f64>,
}

impl Principal {
    /// Bytes that it takes to find all singular values, for each element of the weight: 75 were measured.
    pub const BYTES: u64 = 80;

    /// That of a slot's weight, `[outputs, inputs]`, row-major; `draws` are asked where it is found by iterations. None
    /// where the weight holds something that is no finite number, or its singular values are not found.
    ///
    /// All arithmetic is done by one thread, so that the bits do not depend on their number; and in f64, since vectors
    /// of singular values that are close to each other are told apart by little.
    pub fn find(weight: &[f32], slot: &LoraSlot, start: InitLoraWeights, draws: &mut Stream) -> Option<Self> {
        if !weight.iter().all(|x| x.is_finite()) {
            return None;
        }
        let weight = Mat::from_fn(slot.outputs, slot.inputs, |i, j| f64::from(weight[i * slot.inputs + j]));
        match start {
            InitLoraWeights::PissaIterated(count) => Self::iterated(&weight, slot.rank, count, draws),
            _ => Self::exact(&weight, slot.rank),
        }
    }

    fn exact(weight: &Mat<f64>, rank: usize) -> Option<Self> {
        let all = Svd::new_thin(weight.as_ref()).ok()?;
        Some(Self {
            u: all.U().subcols(0, rank).to_owned(),
            s: all.S().column_vector().iter().take(rank).copied().collect(),
            v: all.V().subcols(0, rank).to_owned(),
        })
    }

    /// That of W projected on a subspace of `rank` dimensions, which W·Wᵀ has drawn towards its largest singular vectors
    /// `count` times (Halko et al. 2011, algorithms 4.4 and 5.1), as `torch.svd_lowrank(q=rank, niter=count)` does.
    fn iterated(weight: &Mat<f64>, rank: usize, count: usize, draws: &mut Stream) -> Option<Self> {
        let drawn = Mat::from_fn(weight.ncols(), rank, |_, _| normal(1.0, draws));
        let mut basis = (weight * drawn).qr().compute_thin_Q();
        for _ in 0..count {
            let turned = (weight.transpose() * basis).qr().compute_thin_Q();
            basis = (weight * turned).qr().compute_thin_Q();
        }
        let within = Self::exact(&(basis.transpose() * weight), rank)?;
        Some(Self { u: basis * within.u, ..within })
    }

    /// Fills the slot's A = diag(√(s / scale))·Vᵀ and B = U·diag(√(s / scale)), so that scale · B·A is this part.
    pub fn fill(&self, values: &mut [f32], slot: &LoraSlot) {
        let roots: Vec<f64> = self.s.iter().map(|s| (s / f64::from(slot.scale)).sqrt()).collect();
        for (k, a) in values[slot.a.clone()].chunks_exact_mut(slot.inputs).enumerate() {
            a.iter_mut().enumerate().for_each(|(j, a)| *a = (roots[k] * self.v[(j, k)]) as f32);
        }
        for (i, b) in values[slot.b.clone()].chunks_exact_mut(slot.rank).enumerate() {
            b.iter_mut().enumerate().for_each(|(k, b)| *b = (roots[k] * self.u[(i, k)]) as f32);
        }
    }
}
