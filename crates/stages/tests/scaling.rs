//! The curves of `docs/scaling.svg`: what is left of the speed of many workers, by the same code that plans a training.

use std::path::{Path, PathBuf};

use crate::common::config;
use collimate_stages::model::plan::{Config, Scaled, plan};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

const MODELS: [(&str, RGBColor); 3] = [
    ("135m", RGBColor(0x0b, 0x6e, 0x6e)),
    ("7b", RGBColor(0xb3, 0x5c, 0x00)),
    ("70b", RGBColor(0x6a, 0x3d, 0x9a)),
];

/// The two networks, and how many pixels of their lines are drawn and left out in turn.
const NETWORKS: [(&str, (i32, i32)); 2] = [("infiniband-hdr", (2000, 0)), ("ethernet-10g", (5, 4))];

const WORKERS: f64 = 1024.0;
const SIZE: (u32, u32) = (900, 420);
const TEXT: RGBColor = RGBColor(0x5b, 0x65, 0x70);
const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A step of 1,024 sequences of 2,048 tokens, each a micro-batch, on nodes of 96 cores.
fn planned(model: &str, network: &str, full: bool) -> Vec<Scaled> {
    let model = here().join(format!("tests/fixtures/sizes/{model}.json"));
    let (model, network) =
        (format!("--model_name_or_path={}", model.display()), format!("--network={network}"));
    let mut words = vec![model.as_str(), network.as_str(), "--workers=1024", "--device=epyc-9654"];
    words.extend([
        "--dtype=bfloat16",
        "--per_device_train_batch_size=1024",
        "--gradient_accumulation_steps=1",
    ]);
    words.extend(["--max_length=2048", "--max_tokens_per_micro_batch=2048"]);
    words.push(if full { "--full" } else { "--lora_target_modules=all-linear" });
    plan(&config::<Config>(&words), None).unwrap().workers.unwrap().scaled
}

/// Draws one half of the figure.
fn draw<B: DrawingBackend>(area: &DrawingArea<B, plotters::coord::Shift>, full: bool)
where
    B::ErrorType: 'static,
{
    let title = if full { "all weights" } else { "LoRA, r = 8, all linear layers" };
    let text = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(title, text(16))
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d((1.0..WORKERS).log_scale().base(2.0), 0.0..1.0)
        .unwrap();
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .label_style(text(13))
        .x_desc("workers, one a node")
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|workers| format!("{workers:.0}"))
        .y_label_formatter(&|share| format!("{:.0} %", 100.0 * share))
        .draw()
        .unwrap();
    for (model, colour) in MODELS {
        for (network, dashes) in NETWORKS {
            let points: Vec<(f64, f64)> = planned(model, network, full)
                .iter()
                .map(|scaled| (scaled.workers as f64, scaled.efficiency))
                .collect();
            let style = colour.stroke_width(2);
            let label = format!("{}, {network}", model.to_uppercase());
            let (dash, gap) = dashes;
            let line = DashedLineSeries::new(points, dash, gap, style);
            let key = move |(x, y)| DashedPathElement::new(vec![(x, y), (x + 24, y)], dash, gap, style);
            chart.draw_series(line).unwrap().label(label).legend(key);
        }
    }
    if full {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .legend_area_size(30)
            .label_font(text(13))
            .background_style(WHITE)
            .draw()
            .unwrap();
    }
}

#[test]
fn the_figure_in_the_docs_is_what_is_planned() {
    let mut figure = String::new();
    {
        let area = SVGBackend::with_string(&mut figure, SIZE).into_drawing_area();
        area.fill(&WHITE).unwrap();
        let (left, right) = area.split_horizontally(SIZE.0 / 2);
        draw(&left, false);
        draw(&right, true);
        area.present().unwrap();
    }
    let committed = here().join("../../docs/scaling.svg");
    let found = std::fs::read_to_string(&committed).unwrap_or_default();
    if found != figure {
        let drawn = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scaling.svg");
        collimate_run::atomic::write(&drawn, figure.as_bytes()).unwrap();
        panic!("copy {} over docs/scaling.svg, after looking at it", drawn.display());
    }
}
