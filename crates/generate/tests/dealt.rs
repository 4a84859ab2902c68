//! Requests that are dealt out to several workers: the samples are those of one, whoever writes them.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use collimate_generate::{
    Answer, Constraint, Dealt, EngineGenerator, Generator, Prompt, Request, Result, Sample, SamplingOptions,
    dismiss,
};
use collimate_run::team::{Arrival, Channel, LEADER, Loss, Team, Threads, threads};
use collimate_run::{Context, Event, Reporter, RunOptions, Silent};
use serde_json::{Value, json};

use crate::common::{ADAPTER, Loaded};

/// Prompts that begin alike, of several samples each.
fn requests() -> Vec<Request> {
    let request = |key: u64| Request {
        samples: (0..key % 4).collect(),
        adapter: key.is_multiple_of(3).then(|| ADAPTER.to_owned()),
        ..Request::new(Prompt::Text(format!("Boil the egg for {key} minutes.")), key)
    };
    (0..24).map(request).collect()
}

fn drawn() -> SamplingOptions {
    SamplingOptions { do_sample: true, max_new_tokens: 12, logprobs: Some(2), ..SamplingOptions::default() }
}

fn generator<'a>(loaded: &'a mut Loaded, together: usize) -> EngineGenerator<'a> {
    EngineGenerator {
        engine: &mut loaded.engine,
        tokenizer: &loaded.tokenizer,
        adapters: &loaded.adapters,
        batch_size: NonZeroUsize::new(together).unwrap(),
        memory: loaded.memory,
        task: "generating",
    }
}

/// What a worker does with a context of its own.
fn at<T>(worker: &Threads, reporter: &dyn Reporter, work: impl FnOnce(&Context) -> T) -> T {
    let calm = AtomicBool::new(false);
    let options = RunOptions { team: worker, ..RunOptions::new(reporter, &calm) };
    work(&Context::new(Path::new(""), &options, false))
}

/// What the leader is given to these requests, by the options of each call, while the others serve.
fn dealt(size: usize, calls: &[SamplingOptions]) -> Vec<Vec<Vec<Sample>>> {
    let found = threads(size, |worker| {
        let mut loaded = Loaded::tiny("llama");
        let mut dealt = Dealt { generator: generator(&mut loaded, 3) };
        at(worker, &Silent, |context| {
            if !worker.leads() {
                return dealt.serve(context).map(|()| Vec::new());
            }
            let found = calls.iter().map(|options| dealt.generate_all(&requests(), options, context));
            let found = found.collect::<Result<Vec<_>>>();
            dismiss(worker);
            found
        })
        .unwrap()
    });
    found.into_iter().next().unwrap()
}

#[test]
fn any_number_of_workers_writes_the_same_samples() {
    let choice = Some(Constraint::Choice(vec!["soft".to_owned(), "hard".to_owned()]));
    let calls = [drawn(), SamplingOptions { constraint: choice, ..drawn() }, SamplingOptions::default()];
    let alone = dealt(1, &calls);
    assert_eq!(alone[0].iter().map(Vec::len).sum::<usize>(), 36);
    for size in [2, 3, 5] {
        assert!(dealt(size, &calls) == alone, "{size} workers");
    }
}

#[test]
fn all_workers_get_all_samples_where_all_want_them() {
    let mut loaded = Loaded::tiny("llama");
    let alone = loaded.generate(&requests(), &drawn(), 4).unwrap();
    for found in threads(3, |worker| {
        let mut loaded = Loaded::tiny("llama");
        let mut dealt = Dealt { generator: generator(&mut loaded, 4) };
        at(worker, &Silent, |context| {
            // Round after round, as a training asks.
            let first = dealt.generate_everywhere(&requests()[..5], &drawn(), context).unwrap();
            [first, dealt.generate_everywhere(&requests(), &drawn(), context).unwrap()]
        })
    }) {
        assert_eq!(found[1].concat(), alone);
        assert_eq!(found[0], found[1][..5]);
    }
}

/// Counts what the leader says, and how many samples it has said to be done.
#[derive(Default)]
struct Heard {
    done: Mutex<u64>,
    total: Mutex<u64>,
}

impl Reporter for Heard {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Started { total, .. } => *self.total.lock().unwrap() += total.unwrap(),
            Event::Advanced { done, .. } => *self.done.lock().unwrap() = done,
            _ => {}
        }
    }
}

#[test]
fn what_a_follower_refuses_the_leader_answers_or_refuses_as_alone() {
    let mut asked = requests();
    asked[7].adapter = Some("lost".to_owned());
    asked[9].prompt = Prompt::Text(String::new());
    let took = threads(3, |worker| {
        let mut loaded = Loaded::tiny("llama");
        if !worker.leads() {
            loaded.adapters.clear();
        }
        let mut dealt = Dealt { generator: generator(&mut loaded, 4) };
        let (heard, mut refused, mut samples) = (Heard::default(), Vec::new(), 0);
        at(worker, &heard, |context| {
            if !worker.leads() {
                return dealt.serve(context).unwrap();
            }
            dealt
                .generate(&asked, &drawn(), context, &mut |answer| {
                    match answer {
                        Answer::Sample { .. } => samples += 1,
                        Answer::Refused { request, error } => refused.push((request, error.to_string())),
                        Answer::Piece { .. } => {}
                    }
                    Ok(())
                })
                .unwrap();
            dismiss(worker);
        });
        refused.sort();
        let counts = (heard.total.into_inner().unwrap(), heard.done.into_inner().unwrap());
        (refused, samples, counts)
    });
    let (refused, samples, (total, done)) = &took[0];
    let expected = [(7, "no adapter of the name lost".to_owned()), (9, "prompt 10 is empty".to_owned())];
    assert_eq!((&refused[..], *samples), (&expected[..], 36 - 3 - 1));
    assert_eq!((*total, *done), (36, 32), "what the others write counts");
    assert_eq!(took[1].2, (0, 0), "a follower says nothing");
}

#[test]
fn a_follower_whose_leader_is_lost_stops() {
    let ends = threads(2, |worker| {
        if worker.leads() {
            let loss = Loss::Failed { host: "here".into(), cause: "it fell".into() };
            worker.leave(&loss);
            return String::new();
        }
        let mut loaded = Loaded::tiny("llama");
        let mut dealt = Dealt { generator: generator(&mut loaded, 4) };
        at(worker, &Silent, |context| dealt.serve(context).unwrap_err().to_string())
    });
    assert_eq!(ends[1], "worker 0 on here is lost: it fell");
}

/// What the leader says next to a follower.
fn next_word(worker: &Threads) -> Value {
    loop {
        match worker.mailbox().take_any_within(Channel::Deal, Duration::from_secs(1)) {
            Some(Arrival::Message(_, bytes)) => return serde_json::from_slice(&bytes).unwrap(),
            Some(Arrival::Lost(..)) => panic!("the leader is there"),
            None => {}
        }
    }
}

#[test]
fn a_report_that_comes_late_is_not_taken_for_one_of_the_next_deal() {
    let alone = Loaded::tiny("llama").generate(&requests(), &drawn(), 4).unwrap();
    let found = threads(2, |worker| {
        if worker.leads() {
            let mut loaded = Loaded::tiny("llama");
            let mut dealt = Dealt { generator: generator(&mut loaded, 4) };
            return at(worker, &Silent, |context| {
                dealt.generate_all(&requests(), &drawn(), context).unwrap()
            });
        }
        let begin = next_word(worker);
        let request = &next_word(worker)["Lot"][0][0];
        let number = requests()[request.as_u64().unwrap() as usize].samples[0];
        let sample = Sample { text: "of an earlier request".to_owned(), ..alone[0].clone() };
        let news = json!({ "Sample": { "request": request, "number": number, "sample": sample } });
        let report = json!({ "deal": begin["Begin"]["deal"].as_u64().unwrap() + 1_000_000, "news": news });
        worker.send(LEADER, Channel::Deal, serde_json::to_vec(&report).unwrap());
        worker.leave(&Loss::Failed { host: "here".into(), cause: "it fell".into() });
        Vec::new()
    });
    assert_eq!(found[0].concat(), alone);
}

#[test]
fn a_follower_that_waits_can_be_stopped() {
    let team = Threads::new(2);
    let stop = AtomicBool::new(true);
    let options = RunOptions { team: &team[1], ..RunOptions::new(&Silent, &stop) };
    let mut loaded = Loaded::tiny("llama");
    let mut dealt = Dealt { generator: generator(&mut loaded, 4) };
    let context = Context::new(Path::new(""), &options, false);
    assert_eq!(dealt.serve(&context).unwrap_err().to_string(), "stopped before the end");
    stop.store(false, Ordering::Relaxed);
    dismiss(&team[0]);
    dealt.serve(&context).unwrap();
}
