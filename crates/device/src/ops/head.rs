//! Token log-probs from hidden states, without the matrix [targets, vocabulary] ever being there as a whole.
//!
//! log p = s_target - ln Σ eˢ for the logits s = h·wᵥ, perhaps capped, in rows of targets at a time. With p = eˢ / Σ eˢ the
//! gradient by h is w_target - Σ pᵥ wᵥ, each w weighed by the slope of its cap.

use super::linear::{product, times, weight_gradient as outer_product};
use super::softcap::{softcap, softcap_backward};
use candle_core::{Result, Tensor};
use std::ops::Range;

/// Most logits at a time.
const LOGITS: usize = if cfg!(test) { 64 } else { 1 << 25 };

/// What is said of each target: log-prob, entropy, log Σ p², and 1 if it is the most likely token, else 0.
pub(crate) const OUTPUTS: usize = 4;

/// Targets, each with the hidden state that it is predicted from.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    /// [targets, hidden].
    pub hidden: Tensor,
    /// The tokens, [targets].
    pub tokens: Tensor,
    /// c, where logits s are capped to c · tanh(s / c).
    pub softcap: Option<f64>,
}

/// What the head says of targets.
#[derive(Debug)]
pub(crate) struct Scored {
    /// [targets, [`OUTPUTS`]].
    pub scores: Tensor,
    /// d log-prob / d hidden, [targets, hidden], if it is wanted.
    pub slopes: Option<Tensor>,
}

/// Scores targets by the head's matrix, [vocabulary, hidden].
pub(crate) fn score(targets: &Targets, weight: &Tensor, slopes: bool) -> Result<Scored> {
    let (mut scores, mut all_slopes) = (Vec::new(), Vec::new());
    for rows in targets.parts(weight)? {
        let part = Part::of(targets, weight, rows)?;
        scores.push(part.scores()?);
        if slopes {
            all_slopes.push(part.slopes(weight)?);
        }
    }
    let slopes = if slopes { Some(Tensor::cat(&all_slopes, 0)?) } else { None };
    Ok(Scored { scores: Tensor::cat(&scores, 0)?, slopes })
}

/// The gradient by the head's matrix, from that by each log-prob, [targets].
pub(crate) fn weight_gradient(targets: &Targets, weight: &Tensor, gradients: &Tensor) -> Result<Tensor> {
    let mut sum = Tensor::zeros(weight.dims(), targets.hidden.dtype(), weight.device())?;
    for rows in targets.parts(weight)? {
        let part = Part::of(targets, weight, rows.clone())?;
        let gradients = gradients.narrow(0, rows.start, rows.len())?.unsqueeze(1)?;
        let d_logits = part.bent_probabilities()?.broadcast_mul(&gradients)?;
        sum = (sum - outer_product(&part.hidden, &d_logits)?)?;
        let by_target = part.hidden.broadcast_mul(&(part.target_slope()? * gradients)?)?;
        sum = sum.index_add(&part.tokens, &by_target, 0)?;
    }
    Ok(sum)
}

impl Targets {
    /// Rows of targets, so that there are never more than [`LOGITS`], or one row of them.
    fn parts(&self, weight: &Tensor) -> Result<impl Iterator<Item = Range<usize>>> {
        let (targets, rows) = (self.tokens.dim(0)?, (LOGITS / weight.dim(0)?.max(1)).max(1));
        Ok((0..targets).step_by(rows).map(move |start| start..(start + rows).min(targets)))
    }
}

/// Some of the targets, with their logits.
struct Part {
    hidden: Tensor,
    tokens: Tensor,
    softcap: Option<f64>,
    /// [targets, vocabulary].
    logits: Tensor,
    /// The largest of each row, [targets, 1].
    largest: Tensor,
    /// e^(s - largest), [targets, vocabulary].
    powers: Tensor,
    /// Their sums, [targets, 1].
    totals: Tensor,
}

impl Part {
    fn of(targets: &Targets, weight: &Tensor, rows: Range<usize>) -> Result<Self> {
        let hidden = targets.hidden.narrow(0, rows.start, rows.len())?;
        let tokens = targets.tokens.narrow(0, rows.start, rows.len())?.contiguous()?;
        let logits = softcap(&product(&hidden, weight)?, targets.softcap)?;
        let largest = logits.max_keepdim(1)?;
        let powers = logits.broadcast_sub(&largest)?.exp()?;
        let totals = powers.sum_keepdim(1)?;
        Ok(Self { hidden, tokens, softcap: targets.softcap, logits, largest, powers, totals })
    }

    /// The logit of each target, [targets, 1].
    fn target(&self) -> Result<Tensor> {
        self.logits.gather(&self.tokens.unsqueeze(1)?, 1)
    }

    fn scores(&self) -> Result<Tensor> {
        let (target, log_total) = (self.target()?, self.totals.log()?);
        let shifted = self.logits.broadcast_sub(&self.largest)?;
        let weighted = (&self.powers * shifted)?.sum_keepdim(1)?;
        let squares = self.powers.sqr()?.sum_keepdim(1)?;
        let log_prob = ((&target - &self.largest)? - &log_total)?;
        let entropy = (&log_total - (weighted / &self.totals)?)?;
        let collision = (squares.log()? - log_total.affine(2.0, 0.0)?)?;
        let correct = target.ge(&self.largest)?.to_dtype(self.logits.dtype())?;
        Tensor::cat(&[log_prob, entropy, collision, correct], 1)
    }

    /// The probabilities, each times the slope of its logit's cap.
    fn bent_probabilities(&self) -> Result<Tensor> {
        let probabilities = self.powers.broadcast_div(&self.totals)?;
        softcap_backward(&self.logits, self.softcap, &probabilities)
    }

    /// The slope of the cap at each target's logit, [targets, 1].
    fn target_slope(&self) -> Result<Tensor> {
        let target = self.target()?;
        softcap_backward(&target, self.softcap, &target.ones_like()?)
    }

    fn slopes(&self, weight: &Tensor) -> Result<Tensor> {
        let own = weight.index_select(&self.tokens, 0)?.to_dtype(self.hidden.dtype())?;
        own.broadcast_mul(&self.target_slope()?)? - times(&self.bent_probabilities()?, weight)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{assert_near, assert_slopes, host, tensor, weights};
    use candle_core::{DType, Device};
    use collimate_kernels::Dtype;
    use collimate_kernels::gemm::Packed;
    use collimate_kernels::head::{self as kernels, Head};

    const ROWS: usize = 7;
    const WIDTH: usize = 5;
    const VOCABULARY: usize = 23;

    fn targets(softcap: Option<f64>, dtype: DType) -> Result<(Targets, Tensor)> {
        let hidden = (tensor(&[ROWS, WIDTH], 1)? * 4.0)?.to_dtype(dtype)?;
        // Two of one token.
        let tokens = Tensor::new(&[3u32, 22, 0, 3, 11, 7, 19], &Device::Cpu)?;
        let weight = tensor(&[VOCABULARY, WIDTH], 2)?.to_dtype(dtype)?;
        Ok((Targets { hidden, tokens, softcap }, weight))
    }

    /// Σ w · log-prob.
    fn loss(targets: &Targets, weight: &Tensor) -> Result<f64> {
        let log_probs = score(targets, weight, false)?.scores.narrow(1, 0, 1)?.squeeze(1)?;
        (&log_probs * weights(&log_probs, 2)?)?.sum_all()?.to_scalar()
    }

    #[test]
    fn scores_are_the_kernels_and_slopes_finite_differences() -> Result<()> {
        for softcap in [None, Some(2.0)] {
            let (single, weight) = targets(softcap, DType::F32)?;
            let head = Head {
                forward: Packed::transposed(&host(&weight)?, WIDTH, VOCABULARY, Dtype::Float32),
                backward: None,
            };
            let mut expected = vec![0.0; ROWS * kernels::OUTPUTS];
            let tokens: Vec<u32> = single.tokens.to_vec1()?;
            let cap = softcap.map(|cap| cap as f32);
            let asked = kernels::Targets { hidden: &host(&single.hidden)?, tokens: &tokens, softcap: cap };
            head.score(asked, kernels::Outputs { scores: &mut expected, gradients: None });
            let expected: Vec<f32> =
                expected.chunks_exact(kernels::OUTPUTS).flat_map(|row| &row[..OUTPUTS]).copied().collect();
            assert!(single.parts(&weight)?.count() > 2);
            assert_near(&score(&single, &weight, false)?.scores, &expected, 2e-6)?;

            let (exact, weight) = targets(softcap, DType::F64)?;
            let ones = Tensor::ones(ROWS, DType::F64, &Device::Cpu)?;
            let by_hidden =
                |hidden: &Tensor| loss(&Targets { hidden: hidden.clone(), ..exact.clone() }, &weight);
            assert_slopes(&exact.hidden, by_hidden, |_, d| {
                let slopes = score(&exact, &weight, true)?.slopes;
                slopes.unwrap_or(ones.clone()).broadcast_mul(&d(&ones)?.unsqueeze(1)?)
            })?;
            assert_slopes(
                &weight,
                |weight| loss(&exact, weight),
                |_, d| weight_gradient(&exact, &weight, &d(&ones)?),
            )?;
        }
        Ok(())
    }
}
