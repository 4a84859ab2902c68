//! What a training would take

use collimate_stages::model::plan::{Memory, Plan, Speed};

use super::{bytes, count, known, time};
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
    text
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
