//! A curve over the steps of a training, as a drawing that scales and follows the page's colours.

use std::error::Error;
use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;

use super::bars::key;
use super::texts::visible;
use crate::curves::{Curve, Point};
use crate::numbers::{count, figure, is_share, percent, tick};

/// Width and height; a phone shows about as many pixels, so that letters keep their size.
const SIZE: (u32, u32) = (360, 220);

// The style sheet replaces these colours by those of the theme; it knows them by their values.
const TEXT: RGBColor = RGBColor(0x5b, 0x65, 0x70);
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
const BAND: RGBColor = RGBColor(0xd3, 0xd9, 0xde);
const TRAIN: RGBColor = RGBColor(0x8a, 0x95, 0xa1);
const EVAL: RGBColor = RGBColor(0x0b, 0x6e, 0x6e);

/// The figure of a curve, with what it began and ended with.
pub(super) fn curve(curve: &Curve) -> Markup {
    let shown = |point: &Point| {
        if is_share(&curve.metric) { percent(point.value) } else { figure(point.value) }
    };
    let ends = |points: &[Point]| match points {
        [] => None,
        [only] => Some(shown(only)),
        [first, .., last] => Some(format!("{} → {}", shown(first), shown(last))),
    };
    let title = visible(&curve.title);
    let series = [("training", "ink", &curve.train), ("evaluation", "accent", &curve.eval)];
    let mut legend: Vec<(String, &str)> = series
        .iter()
        .filter_map(|(name, class, points)| Some((format!("{name} {}", ends(points)?), *class)))
        .collect();
    if !band(&curve.train).is_empty() {
        legend.push(("± a standard deviation".to_owned(), "pale"));
    }
    let legend: Vec<(&str, &str)> = legend.iter().map(|(name, class)| (name.as_str(), *class)).collect();
    let spoken = legend.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    html! {
        figure.plot {
            figcaption {
                (title)
                @if legend.len() > 1 { (key(&legend)) } @else { span.key { span { (spoken) } } }
            }
            @match draw(curve) {
                Ok(drawing) => svg viewBox={ "0 0 " (SIZE.0) " " (SIZE.1) } role="img"
                    aria-label={ (title) " over the steps: " (spoken) } {
                    (PreEscaped(inside(&drawing)))
                },
                Err(reason) => p.warning { "This curve cannot be drawn: " (reason) },
            }
        }
    }
}

/// Draws both series; only numbers go into the drawing, so that nothing in it needs escaping.
fn draw(curve: &Curve) -> Result<String, Box<dyn Error>> {
    let mut drawing = String::new();
    {
        let area = SVGBackend::with_string(&mut drawing, SIZE).into_drawing_area();
        let points = || curve.train.iter().chain(&curve.eval);
        let band = band(&curve.train);
        let steps = range(points().map(|point| point.step), 0.0);
        let ends = band.iter().map(|(_, value)| *value);
        let values = range(points().map(|point| point.value).chain(ends), 0.06);
        let span = values.end - values.start;
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(26)
            .y_label_area_size(66)
            .build_cartesian_2d(steps.start as u64..(steps.end as u64).max(1), values)?;
        let value_label = |value: &f64| match value {
            value if value.abs() < 1e-9 * span => "0".to_owned(),
            value if is_share(&curve.metric) => percent(*value).replace(".0 ", " "),
            value => tick(*value),
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .label_style(("sans-serif", 13).into_font().color(&TEXT))
            .x_labels(6)
            .y_labels(5)
            .x_label_formatter(&|step| count(*step))
            .y_label_formatter(&value_label)
            .draw()?;
        let placed = |points: &[Point]| -> Vec<(u64, f64)> {
            points.iter().map(|point| (point.step as u64, point.value)).collect()
        };
        if !band.is_empty() {
            chart.draw_series([Polygon::new(band, BAND.filled())])?;
        }
        chart.draw_series(LineSeries::new(placed(&curve.train), TRAIN.stroke_width(2)))?;
        chart.draw_series(LineSeries::new(placed(&curve.eval), EVAL.stroke_width(2)))?;
        // Evaluations are few, and alone they make no line.
        let dots = placed(&curve.eval).into_iter().map(|point| Circle::new(point, 3, EVAL.filled()));
        chart.draw_series(dots)?;
        area.present()?;
    }
    Ok(drawing)
}

/// The outline of all that is within a standard deviation of the mean: the upper ends, and back along the lower ones.
fn band(points: &[Point]) -> Vec<(u64, f64)> {
    let end =
        |sign: f64| move |point: &Point| Some((point.step as u64, point.value + sign * point.deviation?));
    let upper = points.iter().filter_map(end(1.0));
    upper.chain(points.iter().rev().filter_map(end(-1.0))).collect()
}

/// From the least to the greatest value with some `room` on either side; never empty.
fn range(values: impl Iterator<Item = f64> + Clone, room: f64) -> Range<f64> {
    let (least, most) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
    let span = match most - least {
        span if span > 0.0 => span,
        _ if most != 0.0 => most.abs(),
        _ => 1.0,
    };
    least - room * span..most + room * span
}

/// What stands in the outermost element.
fn inside(drawing: &str) -> &str {
    let begin = drawing.find("<svg").and_then(|at| Some(at + drawing[at..].find('>')? + 1)).unwrap_or(0);
    let end = drawing.rfind("</svg>").unwrap_or(drawing.len());
    &drawing[begin..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_stays_the_same_is_shown_on_its_own_scale() {
        let around = |values: &[f64]| range(values.iter().copied(), 0.5);
        assert_eq!(around(&[0.25, 0.25]), 0.125..0.375);
        assert_eq!(around(&[0.0]), -0.5..0.5);
        assert_eq!(around(&[1.0, 3.0]), 0.0..4.0);
    }
}
