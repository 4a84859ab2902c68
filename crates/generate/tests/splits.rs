//! However the work is split, over batches, threads, memory, kills and restarts, every sample is the same.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{ADAPTER, Loaded, fixtures};
use collimate_engine::{Dtype, Engine};
use collimate_generate::{
    Answer, EngineGenerator, Error, Generator, Prompt, Request, Result, Sample, SamplingOptions,
};
use collimate_run::{Context, RunOptions, Silent};
use proptest::prelude::*;

/// What a run has written, by key and number of sample.
type Samples = BTreeMap<(u64, u64), Sample>;

fn options() -> SamplingOptions {
    SamplingOptions {
        do_sample: true,
        top_k: 0,
        repetition_penalty: 1.1,
        frequency_penalty: 0.2,
        stop_strings: vec!["ab".to_owned()],
        logprobs: Some(2),
        max_new_tokens: 70,
        ..SamplingOptions::default()
    }
}

/// Prompts with a long common beginning and without, with adapter and without.
fn requests() -> Vec<Request> {
    let common: Vec<u32> = (0..80).map(|i| i * 7 % 140 + 1).collect();
    let prompt = |key: u64| match key {
        0..3 => [&common[..], &[key as u32 + 1; 5]].concat(),
        3 => common[..64].to_vec(),
        _ => vec![key as u32; 3 * key as usize],
    };
    let request = |key: u64| Request {
        samples: (0..[1, 4, 2][key as usize % 3]).collect(),
        adapter: key.is_multiple_of(2).then(|| ADAPTER.to_owned()),
        ..Request::new(Prompt::Tokens(prompt(key)), key)
    };
    (0..7).map(request).collect()
}

/// Each sample by itself.
fn expected(dtype: Dtype) -> &'static Samples {
    static SAMPLES: [OnceLock<Samples>; 2] = [const { OnceLock::new() }; 2];
    SAMPLES[usize::from(dtype == Dtype::Bfloat16)].get_or_init(|| {
        let mut loaded = Loaded::open_as(&fixtures().join("tiny/llama"), 1, dtype);
        let single = |request: &Request, number| Request { samples: vec![number], ..request.clone() };
        let requests = requests();
        let singles = requests.iter().flat_map(|request| {
            request.samples.iter().map(|&number| ((request.key, number), single(request, number)))
        });
        singles
            .map(|(place, single)| (place, loaded.generate(&[single], &options(), 1).unwrap().remove(0)))
            .collect()
    })
}

/// Goes on with what is missing, until it is interrupted after so many samples.
fn go_on(loaded: &mut Loaded, found: &mut Samples, batch_size: usize, most: usize) -> Result<()> {
    let missing = |request: Request| Request {
        samples: request
            .samples
            .iter()
            .copied()
            .filter(|&n| !found.contains_key(&(request.key, n)))
            .collect(),
        ..request
    };
    let requests: Vec<Request> = requests().into_iter().map(missing).collect();
    let interrupted = AtomicBool::new(false);
    let run = RunOptions::new(&Silent, &interrupted);
    let mut generator = EngineGenerator {
        engine: &mut loaded.engine,
        tokenizer: &loaded.tokenizer,
        adapters: &loaded.adapters,
        batch_size: NonZeroUsize::new(batch_size).unwrap(),
        memory: loaded.memory,
        task: "generating",
    };
    let mut left = most;
    generator.generate(&requests, &options(), &Context::new(Path::new(""), &run, false), &mut |answer| {
        if let Answer::Sample { request, number, sample } = answer {
            assert!(found.insert((requests[request].key, number), sample).is_none(), "given twice");
            left = left.saturating_sub(1);
            interrupted.store(left == 0, Ordering::Relaxed);
        }
        Ok(())
    })
}

/// Bytes of a page of the tiny model.
fn page(loaded: &mut Loaded) -> u64 {
    let config = loaded.engine.config();
    (config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim * 64 * 4) as u64
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn any_split_gives_the_same_samples(
        dtype in prop_oneof![Just(Dtype::Float32), Just(Dtype::Bfloat16)],
        runs in prop::collection::vec((1..3usize, 1..12usize, 4..14u64, 1..9usize), 1..6),
    ) {
        let mut found = Samples::new();
        let last = (2, 8, 6, usize::MAX);
        for (threads, batch_size, pages, most) in runs.into_iter().chain([last]) {
            let mut loaded = Loaded::open_as(&fixtures().join("tiny/llama"), threads, dtype);
            loaded.memory = pages * page(&mut loaded);
            match go_on(&mut loaded, &mut found, batch_size, most) {
                Ok(()) | Err(Error::Run(collimate_run::Error::Interrupted)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert!(found == *expected(dtype));
    }
}
