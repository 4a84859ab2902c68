//! What a training would take

use collimate_stages::model::plan::{Memory, Plan, Scaled, Speed, Workers};
use comfy_table::CellAlignment;

use super::{bytes, count, grid, known, percent, time};
use crate::figures::figure;

/// Memory by part, whether it fits, and how long it takes.
pub fn model_plan(plan: &Plan) -> String {
    let [tokens, targets] = plan.micro_batch;
    let place = plan.device.map_or("this machine, measured".to_owned(), |device| {
        format!("{}, computed from {}", device.name, device.source)
    });
    let head = [
        ("parameters", Some(count(plan.parameters))),
        ("parameters trained", Some(count(plan.trainable_parameters))),
        (
            "at once, at most",
            Some(format!("{} tokens, {} targets", count(tokens as u64), count(targets as u64))),
        ),
    ];
    let memory = &plan.memory;
    let parts = memory.parts.iter().map(|part| (part.name, Some(bytes(part.bytes))));
    let facts = head.into_iter().chain(parts).chain(whole(memory)).chain(speed(&plan.speed));
    let mut text = known(facts.chain([("planned for", Some(place))]));
    for advice in &memory.advice {
        text += &format!("\n{} in all with {}", bytes(advice.total), advice.setting);
    }
    if let Some(workers) = &plan.workers {
        text += &format!("\n\n{}", on_workers(workers));
    }
    text
}

/// What connects the workers, and a row for each number of them.
fn on_workers(workers: &Workers) -> String {
    let link = workers.between.unwrap_or(workers.inside);
    let speed = format!("{}/s, {} µs", bytes(link.bandwidth as u64), figure(1e6 * link.latency));
    let facts = known([
        ("network", Some(format!("{}: {speed}", workers.network))),
        ("micro-batches of a step", Some(count(workers.micro_batches as u64))),
        ("a gradient", Some(bytes(workers.gradient))),
    ]);
    let header = [
        "workers",
        "nodes",
        "s a step",
        "tokens/s",
        "efficiency",
        "exchange",
        "sent a step",
        "memory a node",
    ];
    let mut table = grid(header);
    table.add_rows(workers.scaled.iter().map(row));
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    format!("{facts}\n{table}")
}

/// What a node must hold, and whether it can.
fn memory(Scaled { memory_per_node, limit_per_node, fits, .. }: &Scaled) -> String {
    let needed = bytes(*memory_per_node);
    match limit_per_node {
        Some(limit) if !fits => format!("{needed}, not into {}", bytes(*limit)),
        _ => needed,
    }
}

fn row(scaled: &Scaled) -> [String; 8] {
    [
        count(scaled.workers as u64),
        count(scaled.nodes as u64),
        figure(scaled.seconds_per_step),
        figure(scaled.tokens_per_second),
        percent(scaled.efficiency),
        percent(scaled.exchange),
        bytes(scaled.sent),
        memory(scaled),
    ]
}

fn whole(memory: &Memory) -> [(&'static str, Option<String>); 3] {
    let limit = memory.limit.map(bytes);
    let fits = match (memory.fits, limit) {
        (true, Some(limit)) => format!("yes, into {limit}"),
        (false, Some(limit)) => format!("no, not into {limit}"),
        (_, None) => "not known: the system does not say what is free".to_owned(),
    };
    let again = memory.recomputed;
    let recomputed = (again > 0).then(|| format!("{again} of {} layers", memory.layers));
    [("memory in all", Some(bytes(memory.total))), ("fits", Some(fits)), ("computed again", recomputed)]
}

fn speed(speed: &Speed) -> [(&'static str, Option<String>); 6] {
    let written = (speed.writing_seconds > 0.0).then(|| format!("{} s", figure(speed.writing_seconds)));
    [
        ("tokens a second", Some(figure(speed.tokens_per_second))),
        ("tokens of a step", Some(count(speed.tokens_per_step))),
        ("time of a step", Some(format!("{} s", figure(speed.seconds_per_step)))),
        ("  of it, writing completions", written),
        ("time of the reference model", speed.reference_seconds.map(time)),
        ("time of all steps", speed.seconds.map(time)),
    ]
}
