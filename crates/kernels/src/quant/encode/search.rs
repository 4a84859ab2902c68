//! The scales of groups of weights, found by trying some: all groups of a block at once, one in each lane.
//!
//! In each lane every sum runs in the order of the group's weights, so the result is that of one group after another.

use std::array::from_fn;

/// Weights below this make a group that counts as zero.
pub(super) const NOTHING: f32 = 1e-15;

/// What can be added to a number below 2²² to round it to a whole one, ties to even: 1.5 · 2²³.
const ROUND: f32 = 12_582_912.0;

/// The nearest whole number, ties to even, of one below 2²².
#[inline(always)]
pub(super) fn nearest(number: f32) -> f32 {
    (number + ROUND) - ROUND
}

#[inline(always)]
pub(super) fn clamp(number: f32, least: f32, most: f32) -> f32 {
    let number = if number < most { number } else { most };
    if number > least { number } else { least }
}

/// Groups of a block with integers and a scale; the weight is about scale · integer.
pub(super) struct Scaled<const LEN: usize, const LANES: usize> {
    /// `[weight of the group][group]`: whole numbers from `-most` to `most - 1`; groups of nothing have `-most`.
    pub(super) integers: [[f32; LANES]; LEN],
    pub(super) scales: [f32; LANES],
}

/// Scales whose error, weighted with the weights' squares, is least among 19 of those that take the weight furthest
/// from 0 to about `-most`. (`make_qx_quants` of ggml.)
#[inline(always)]
pub(super) fn scale<const LEN: usize, const LANES: usize>(
    weights: &[[f32; LANES]; LEN],
    most: f32,
) -> Scaled<LEN, LANES> {
    let mut extremes = [0.0_f32; LANES];
    for row in weights {
        extremes = from_fn(|l| if row[l].abs() > extremes[l].abs() { row[l] } else { extremes[l] });
    }
    let nothing: [bool; LANES] = from_fn(|l| extremes[l].abs() < NOTHING);
    let extremes: [f32; LANES] = from_fn(|l| if nothing[l] { 1.0 } else { extremes[l] });
    let integer = |weight: f32, inverse: f32| clamp(nearest(inverse * weight), -most, most - 1.0);
    // The sums of weight² · weight · integer and of weight² · integer².
    let sums = |inverses: &[f32; LANES]| {
        let (mut products, mut squares) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for row in weights {
            for l in 0..LANES {
                let (importance, integer) = (row[l] * row[l], integer(row[l], inverses[l]));
                products[l] += importance * row[l] * integer;
                squares[l] += importance * integer * integer;
            }
        }
        (products, squares)
    };
    let mut inverses: [f32; LANES] = from_fn(|l| -most / extremes[l]);
    let (products, squares) = sums(&inverses);
    let mut scales: [f32; LANES] =
        from_fn(|l| if squares[l] == 0.0 { 0.0 } else { products[l] / squares[l] });
    let mut best: [f32; LANES] = from_fn(|l| scales[l] * products[l]);
    for step in (-9..=9_i8).filter(|step| *step != 0) {
        let reach = most + 0.1 * f32::from(step);
        let tried: [f32; LANES] = from_fn(|l| -reach / extremes[l]);
        let (products, squares) = sums(&tried);
        for l in 0..LANES {
            let better = squares[l] > 0.0 && products[l] * products[l] > best[l] * squares[l];
            let scale = products[l] / squares[l];
            inverses[l] = if better { tried[l] } else { inverses[l] };
            scales[l] = if better { scale } else { scales[l] };
            best[l] = if better { scale * products[l] } else { best[l] };
        }
    }
    let integers = weights
        .each_ref()
        .map(|row| from_fn(|l| if nothing[l] { -most } else { integer(row[l], inverses[l]) }));
    Scaled { integers, scales: from_fn(|l| if nothing[l] { 0.0 } else { scales[l] }) }
}

/// Groups of a block with integers, a scale and a minimum; the weight is about scale · integer - minimum.
pub(super) struct Shifted<const LEN: usize, const LANES: usize> {
    /// `[weight of the group][group]`: whole numbers from 0 to the most.
    pub(super) integers: [[f32; LANES]; LEN],
    pub(super) scales: [f32; LANES],
    pub(super) minima: [f32; LANES],
}

/// What [`shift`] tries: scales that take the range of the weights to from `most + first` on, in so many steps of 0.1.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub(super) most: f32,
    pub(super) first: f32,
    pub(super) count: u8,
}

/// Scales and minima whose weighted squared error is least among those tried; for each scale that is tried, scale and
/// minimum are fitted again to the integers that it leads to. A minimum is never above 0. (`make_qkx2_quants` of
/// ggml.)
#[inline(always)]
pub(super) fn shift<const LEN: usize, const LANES: usize>(
    weights: &[[f32; LANES]; LEN],
    importance: &[[f32; LANES]; LEN],
    steps: Steps,
) -> Shifted<LEN, LANES> {
    let range = Range::of(weights, importance);
    let most = steps.most;
    let integers_of = |minima: &[f32; LANES], inverses: &[f32; LANES]| -> [[f32; LANES]; LEN] {
        let row =
            |row: &[f32; LANES]| from_fn(|l| clamp(nearest(inverses[l] * (row[l] - minima[l])), 0.0, most));
        weights.each_ref().map(row)
    };
    let errors_of = |integers: &[[f32; LANES]; LEN], scales: &[f32; LANES], minima: &[f32; LANES]| {
        let mut errors = [0.0_f32; LANES];
        for ((row, integers), importance) in weights.iter().zip(integers).zip(importance) {
            for l in 0..LANES {
                let difference = scales[l] * integers[l] + minima[l] - row[l];
                errors[l] += importance[l] * (difference * difference);
            }
        }
        errors
    };
    let mut minima = range.least;
    let inverses: [f32; LANES] = from_fn(|l| most / range.width(l, minima[l]));
    let mut scales = inverses.map(|inverse| 1.0 / inverse);
    let mut integers = integers_of(&minima, &inverses);
    let mut best = errors_of(&integers, &scales, &minima);
    for step in 0..=steps.count {
        let reach = steps.first + 0.1 * f32::from(step) + most;
        let inverses: [f32; LANES] = from_fn(|l| reach / range.width(l, minima[l]));
        let tried = integers_of(&minima, &inverses);
        let fit = Fit::new(&tried, weights, importance, &range);
        let errors = errors_of(&tried, &fit.scales, &fit.minima);
        let better: [bool; LANES] = from_fn(|l| fit.sound[l] && errors[l] < best[l]);
        for (row, tried) in integers.iter_mut().zip(&tried) {
            *row = from_fn(|l| if better[l] { tried[l] } else { row[l] });
        }
        best = from_fn(|l| if better[l] { errors[l] } else { best[l] });
        scales = from_fn(|l| if better[l] { fit.scales[l] } else { scales[l] });
        minima = from_fn(|l| if better[l] { fit.minima[l] } else { minima[l] });
    }
    for row in &mut integers {
        *row = from_fn(|l| if range.flat[l] { 0.0 } else { row[l] });
    }
    Shifted {
        integers,
        scales: from_fn(|l| if range.flat[l] { 0.0 } else { scales[l] }),
        minima: from_fn(|l| if range.flat[l] { -range.least[l] } else { -minima[l] }),
    }
}

/// What is known of the groups before anything is tried.
struct Range<const LANES: usize> {
    /// The least weight, at most 0.
    least: [f32; LANES],
    most: [f32; LANES],
    /// Whether all weights are the same number, at most 0.
    flat: [bool; LANES],
    /// The sum of the importances.
    total: [f32; LANES],
    /// The sum of importance · weight.
    sum: [f32; LANES],
}

impl<const LANES: usize> Range<LANES> {
    #[inline(always)]
    fn of<const LEN: usize>(weights: &[[f32; LANES]; LEN], importance: &[[f32; LANES]; LEN]) -> Self {
        let (mut least, mut most) = (weights[0], weights[0]);
        let mut total = importance[0];
        let mut sum: [f32; LANES] = from_fn(|l| total[l] * weights[0][l]);
        for (row, importance) in weights.iter().zip(importance).skip(1) {
            for l in 0..LANES {
                least[l] = if row[l] < least[l] { row[l] } else { least[l] };
                most[l] = if row[l] > most[l] { row[l] } else { most[l] };
                total[l] += importance[l];
                sum[l] += importance[l] * row[l];
            }
        }
        let least = least.map(|least| if least > 0.0 { 0.0 } else { least });
        Self { least, most, flat: from_fn(|l| most[l] == least[l]), total, sum }
    }

    /// From a minimum to the greatest weight; nothing is divided by zero for groups that are flat.
    #[inline(always)]
    fn width(&self, lane: usize, minimum: f32) -> f32 {
        if self.flat[lane] { 1.0 } else { self.most[lane] - minimum }
    }
}

/// Scales and minima fitted to integers by weighted least squares.
struct Fit<const LANES: usize> {
    scales: [f32; LANES],
    minima: [f32; LANES],
    /// Whether the integers determine them.
    sound: [bool; LANES],
}

impl<const LANES: usize> Fit<LANES> {
    #[inline(always)]
    fn new<const LEN: usize>(
        integers: &[[f32; LANES]; LEN],
        weights: &[[f32; LANES]; LEN],
        importance: &[[f32; LANES]; LEN],
        range: &Range<LANES>,
    ) -> Self {
        let (mut firsts, mut squares, mut products) = ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
        for ((integers, row), importance) in integers.iter().zip(weights).zip(importance) {
            for l in 0..LANES {
                let first = importance[l] * integers[l];
                firsts[l] += first;
                squares[l] += first * integers[l];
                products[l] += first * row[l];
            }
        }
        let mut fit = Self { scales: [0.0; LANES], minima: [0.0; LANES], sound: [false; LANES] };
        for l in 0..LANES {
            let (total, sum) = (range.total[l], range.sum[l]);
            let determinant = total * squares[l] - firsts[l] * firsts[l];
            let scale = (total * products[l] - sum * firsts[l]) / determinant;
            let minimum = (squares[l] * sum - firsts[l] * products[l]) / determinant;
            let above = minimum > 0.0;
            fit.scales[l] = if above { products[l] / squares[l] } else { scale };
            fit.minima[l] = if above { 0.0 } else { minimum };
            fit.sound[l] = determinant > 0.0;
        }
        fit
    }
}
