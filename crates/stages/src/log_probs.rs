//! The log-probs of a data set under a model, kept in the cache under the hash of both.

use std::path::Path;

use collimate_engine::CpuEngine;
use collimate_model::Lora;
use collimate_run::fingerprint::fingerprint;
use collimate_run::{Context, Manifest};
use collimate_train::{LogProbs, MicroBatch, Scorer, TrainingExample};

use crate::Error;

/// Where log-probs stand in the cache.
const CACHE_FOLDER: &str = "log_probs";

/// The model that is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Where it lies.
    pub model: &'a Path,
    /// The adapter on it.
    pub adapter: Option<&'a Lora>,
    /// Most tokens that go through the engine at once; changes no result.
    pub micro_batch_tokens: usize,
    /// What is said to be under way.
    pub task: &'static str,
}

/// The log-probs of the wanted examples, from the cache as far as they stand there. Of several workers the leader looks
/// there, and all get the same.
pub(crate) fn compute<X: TrainingExample>(
    engine: &mut CpuEngine,
    subject: Subject<'_>,
    (examples, wanted): (&[X], &[usize]),
    cache: Option<&Path>,
    context: &Context,
) -> Result<LogProbs, Error> {
    let file = match cache.filter(|_| context.team().leads()) {
        Some(folder) => {
            let arithmetic = engine.described();
            Some(folder.join(CACHE_FOLDER).join(key(subject, &arithmetic, examples, context)?))
        }
        None => None,
    };
    let Subject { adapter, micro_batch_tokens, task, .. } = subject;
    let scorer = Scorer { engine, adapter, micro_batch_tokens, task };
    Ok(LogProbs::compute(scorer, (examples, wanted), file.as_deref(), context)?)
}

/// A hash of all that the log-probs depend on: the program, its arithmetic, the model, the adapter, the examples.
fn key<X: TrainingExample>(
    subject: Subject<'_>,
    arithmetic: &str,
    examples: &[X],
    context: &Context,
) -> Result<String, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.update(arithmetic.as_bytes());
    hasher.update(contents(subject.model, context)?.as_bytes());
    if let Some(lora) = subject.adapter {
        for slot in &lora.slots {
            let place =
                [slot.layer as u64, slot.module as u64, slot.rank as u64, slot.scale.to_bits().into()];
            hash_numbers(&mut hasher, place.into_iter().chain([slot.magnitude.is_some().into()]));
        }
        let whole = [&lora.embedding, &lora.head, &lora.score].map(|place| u64::from(place.is_some()));
        hash_numbers(&mut hasher, whole);
        hash_numbers(&mut hasher, lora.values.iter().map(|value| u64::from(value.to_bits())));
        // What the model is without.
        let start = lora.start.iter().flat_map(|start| start.iter());
        hash_numbers(&mut hasher, start.map(|value| u64::from(value.to_bits())));
    }
    let mut part = MicroBatch::default();
    for (number, example) in examples.iter().enumerate() {
        part.clear();
        example.push(number, &mut part);
        let batch = &part.batch;
        let segments = batch.segments.iter().flat_map(|segment| {
            [segment.len as u64, segment.parent.map_or(u64::MAX, |parent| parent as u64)]
        });
        let targets = batch.targets.iter().flat_map(|target| [target.row, target.token]);
        let counts = [batch.segments.len(), batch.tokens.len(), batch.targets.len()];
        hash_numbers(&mut hasher, counts.map(|count| count as u64));
        hash_numbers(&mut hasher, segments);
        hash_numbers(&mut hasher, batch.tokens.iter().copied().chain(targets).map(u64::from));
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The hash of a model's files: the runner has formed it already if the model is an input of the stage.
fn contents(model: &Path, context: &Context) -> Result<String, Error> {
    let path = model.display().to_string();
    let manifest = Manifest::load(context.output())?;
    let known = manifest.into_iter().flat_map(|manifest| manifest.inputs).find(|input| input.path == path);
    Ok(match known {
        Some(input) => input.contents.blake3,
        None => fingerprint(model)?.blake3,
    })
}

fn hash_numbers(hasher: &mut blake3::Hasher, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|number| {
        hasher.update(&number.to_le_bytes());
    });
}
