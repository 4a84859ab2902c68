//! The scalar head: the value of a hidden state is w · norm(h); its gradients go into w, the norm and the stream.
//!
//! Everything is summed in the order of the readouts, one after the other: they are few beside the targets.

use super::forward::Pass;
use super::trained::Trained;
use super::workspace::Workspace;
use collimate_kernels::gemm::{Left, Target, dots};
use collimate_kernels::norm::{rms_norm, rms_norm_backward, rms_norm_weight_gradient};
use collimate_kernels::parallel::with_scratch;

impl Pass<'_> {
    /// The scalar head's weights, [hidden]: the adapter's own, else the model's.
    fn score(&self) -> Option<&[f32]> {
        let own = self.adapters.iter().find_map(|(_, adapter)| adapter.score());
        own.or(self.weights.score.as_deref())
    }

    /// The value of every readout.
    pub fn values(&self, space: &mut Workspace) {
        let Some(score) = self.score() else { return };
        let width = self.shape.hidden;
        let outputs = &space.inputs[space.input_index(self.weights.layers.len())];
        let rows = space.readout_rows.iter().map(|&row| &outputs[row as usize * width..][..width]);
        with_scratch([width], |[normed]| {
            for (output, value) in rows.zip(&mut space.values) {
                rms_norm(output, &self.weights.norm, self.shape.epsilon, normed);
                let target = Target { data: std::slice::from_mut(value), row: 1 };
                dots([1, 1, width], Left::rows(normed, width), score, target);
            }
        });
    }

    /// Adds the gradients by the stream, and by the weights that are trained, given those by the readouts'
    /// values.
    pub fn values_backward(
        &self,
        trained: Trained<'_>,
        space: &mut Workspace,
        gradients: &[f32],
        into: &mut [f32],
    ) {
        let Some(score) = self.score() else { return };
        let (width, norm, epsilon) = (self.shape.hidden, &self.weights.norm, self.shape.epsilon);
        let outputs = &space.inputs[space.input_index(self.weights.layers.len())];
        with_scratch([width, width], |[normed, d_normed]| {
            for (&row, gradient) in space.readout_rows.iter().zip(gradients) {
                let at = row as usize * width..(row as usize + 1) * width;
                let output = &outputs[at.clone()];
                if let Some(place) = trained.score() {
                    rms_norm(output, norm, epsilon, normed);
                    into[place].iter_mut().zip(&*normed).for_each(|(sum, x)| *sum += gradient * x);
                }
                d_normed.iter_mut().zip(score).for_each(|(d, w)| *d = gradient * w);
                if let Trained::Weights(layout) = trained {
                    rms_norm_weight_gradient(output, epsilon, d_normed, &mut into[layout.norm.clone()]);
                }
                rms_norm_backward(output, norm, epsilon, d_normed, &mut space.d_stream[at]);
            }
        });
    }
}
