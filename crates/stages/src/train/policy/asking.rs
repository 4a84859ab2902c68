//! The policy at work: completions by its own generator, and what it and its reference say of them.

use std::num::NonZeroUsize;

use collimate_engine::{CpuEngine, Engine, cost};
use collimate_generate::{Dealt, EngineGenerator, Prompt, Request, Sample, SamplingOptions};
use collimate_model::{Lora, Tokenizer};
use collimate_run::Context;
use collimate_run::team::shared_out;
use collimate_train::{MicroBatch, cut};

use super::example::Written;
use super::questions::Question;
use crate::Error;
use crate::loading::free_memory;

/// Completions that are written at the same time, at most: from there on the products gain nothing.
const TOGETHER: usize = 64;

/// Which part of the memory that a worker may count on keys and values may take.
const SHARE_OF_FREE: u64 = 4;

/// What they may take where the free memory is not known.
const FALLBACK_MEMORY: u64 = 1 << 30;

/// The name that requests know the adapter in training by.
const POLICY: &str = "policy";

/// How completions are written.
pub(super) struct Pen<'a> {
    pub tokenizer: &'a Tokenizer,
    pub options: &'a SamplingOptions,
    /// Completions of each prompt.
    pub count: usize,
}

impl Pen<'_> {
    /// So many completions of each question, under the key beside it, by the model as it is, with the adapter if it is
    /// one that is trained. All workers ask for the same, write it together, and all get it.
    pub fn write<'q>(
        &self,
        engine: &mut CpuEngine,
        policy: Option<&Lora>,
        questions: impl IntoIterator<Item = (u64, &'q Question)>,
        context: &Context,
    ) -> Result<Vec<Vec<Sample>>, Error> {
        let adapters: Vec<(String, Lora)> =
            policy.map(|lora| (POLICY.to_owned(), lora.clone())).into_iter().collect();
        let adapter = adapters.first().map(|(name, _)| name.clone());
        let request = |(key, question): (u64, &Question)| Request {
            samples: (0..self.count as u64).collect(),
            adapter: adapter.clone(),
            ..Request::new(Prompt::Tokens(question.tokens.clone()), key)
        };
        let requests: Vec<Request> = questions.into_iter().map(request).collect();
        let together = (requests.len() * self.count).clamp(1, TOGETHER);
        let generator = EngineGenerator {
            engine,
            tokenizer: self.tokenizer,
            adapters: &adapters,
            batch_size: NonZeroUsize::new(together).unwrap_or(NonZeroUsize::MIN),
            memory: free_memory(context.team()).map_or(FALLBACK_MEMORY, |bytes| bytes / SHARE_OF_FREE),
            task: "writing completions",
        };
        Ok(Dealt { generator }.generate_everywhere(&requests, self.options, context)?)
    }
}

/// What is asked of a model that reads completions.
pub(super) enum About {
    /// The log-probs under the policy, and its values where it has any.
    Policy,
    /// The log-probs under the reference.
    Reference,
}

/// Reads all completions and keeps what a model says of them. Workers share the micro-batches out, and all get the same.
pub(super) fn read(
    engine: &mut CpuEngine,
    adapter: Option<&Lora>,
    (written, about): (&mut [Written], About),
    micro_batch_tokens: usize,
    context: &Context,
) -> Result<(), Error> {
    let numbers: Vec<usize> = (0..written.len()).collect();
    let parts: Vec<_> = cut(written, &numbers, micro_batch_tokens).collect();
    let micro_batch = |part: usize, written: &[Written]| {
        let mut micro_batch = MicroBatch::default();
        micro_batch.fill(written, &numbers[parts[part].clone()]);
        if matches!(about, About::Reference) {
            micro_batch.batch.readouts.clear();
        }
        micro_batch
    };
    let costs = (0..parts.len()).map(|part| cost(engine.config(), &micro_batch(part, written).batch));
    let costs: Vec<u64> = costs.collect();
    let said = shared_out(context.team(), &costs, |part| {
        context.check()?;
        let scores = engine.score(&micro_batch(part, written).batch, adapter)?;
        Ok::<_, Error>((scores.log_probs.clone(), scores.values.clone()))
    })?;
    for (part, (log_probs, values)) in said.into_iter().enumerate() {
        let sequences = micro_batch(part, written).grouping.sequences;
        let completions =
            written[parts[part].clone()].iter_mut().flat_map(|written| &mut written.completions);
        for (completion, targets) in completions.zip(sequences) {
            match about {
                About::Policy => {
                    completion.log_probs = log_probs[targets.clone()].to_vec();
                    // One value for each target, where there are any.
                    completion.values = values.get(targets).unwrap_or_default().to_vec();
                }
                About::Reference => completion.reference = log_probs[targets].to_vec(),
            }
        }
    }
    Ok(())
}
