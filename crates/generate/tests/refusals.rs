//! A request that cannot be answered is refused by itself; the others are answered, and streamed where they are to be.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::common::{ADAPTER, Loaded};
use collimate_generate::{Answer, EngineGenerator, Generator, Prompt, Request, Sample, SamplingOptions};
use collimate_run::{Context, RunOptions, Silent};

/// What became of the requests.
#[derive(Default)]
struct Became {
    samples: BTreeMap<(usize, u64), Sample>,
    pieces: BTreeMap<(usize, u64), String>,
    refused: BTreeMap<usize, String>,
}

fn options() -> SamplingOptions {
    SamplingOptions { do_sample: true, max_new_tokens: 20, ..SamplingOptions::default() }
}

fn answer(loaded: &mut Loaded, requests: &[Request], options: &SamplingOptions) -> Became {
    let mut generator = EngineGenerator {
        engine: &mut loaded.engine,
        tokenizer: &loaded.tokenizer,
        adapters: &loaded.adapters,
        batch_size: NonZeroUsize::new(3).unwrap(),
        memory: loaded.memory,
        task: "generating",
    };
    let interrupted = AtomicBool::new(false);
    let run = RunOptions::new(&Silent, &interrupted);
    let (context, mut became) = (Context::new(Path::new(""), &run, false), Became::default());
    let mut take = |answer| {
        match answer {
            Answer::Sample { request, number, sample } => {
                assert!(became.samples.insert((request, number), sample).is_none(), "given twice");
            }
            Answer::Piece { request, number, text } => {
                became.pieces.entry((request, number)).or_default().push_str(&text);
            }
            Answer::Refused { request, error } => {
                assert!(became.refused.insert(request, error.to_string()).is_none(), "refused twice");
            }
        }
        Ok(())
    };
    generator.generate(requests, options, &context, &mut take).unwrap();
    became
}

fn tokens(key: u64, count: usize) -> Request {
    Request { samples: vec![0, 1], ..Request::new(Prompt::Tokens(vec![key as u32 + 1; count]), key) }
}

#[test]
fn the_others_are_answered() {
    let mut loaded = Loaded::tiny("llama");
    // An adapter whose training diverged.
    loaded.adapters[0].1.values.fill(f32::NAN);
    let requests = [
        tokens(0, 5),
        tokens(1, 0),
        Request { prompt: Prompt::Tokens(vec![400]), ..tokens(2, 1) },
        tokens(3, 512),
        Request { adapter: Some("absent".to_owned()), ..tokens(4, 3) },
        Request { adapter: Some(ADAPTER.to_owned()), ..tokens(5, 4) },
        Request { samples: Vec::new(), ..tokens(6, 0) },
        tokens(7, 9),
    ];
    let became = answer(&mut loaded, &requests, &options());
    assert_eq!(became.samples.keys().copied().collect::<Vec<_>>(), [(0, 0), (0, 1), (7, 0), (7, 1)]);
    let expected = [
        (1, "prompt 2 is empty"),
        (2, "token 400 is outside the model's vocabulary of 400"),
        (3, "prompt 4 has 512 tokens, and the model's context of 512 leaves no room for an answer"),
        (4, "no adapter of the name absent"),
        (5, "the model gave a value that is not a finite number, after 0 tokens of the answer to prompt 6"),
    ];
    assert_eq!(became.refused, expected.map(|(request, text)| (request, text.to_owned())).into());
}

#[test]
fn what_would_not_fit_into_memory_even_alone_is_refused() {
    let mut loaded = Loaded::tiny("llama");
    let all = answer(&mut loaded, &[tokens(0, 150), tokens(1, 9)], &options());
    // Two pages of 64 tokens, as a prompt of 9 tokens and its answer take; the other one takes four.
    let config = collimate_engine::Engine::config(&loaded.engine);
    loaded.memory =
        2 * (config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim * 64 * 4) as u64;
    let became = answer(&mut loaded, &[tokens(0, 150), tokens(1, 9)], &options());
    let expected =
        "prompt 1 and its answer may take 256 tokens, and the memory for keys and values has room for 128";
    assert_eq!(became.refused, [(0, expected.to_owned())].into());
    let second: Vec<_> = all.samples.iter().filter(|((request, _), _)| *request == 1).collect();
    assert_eq!(
        became.samples.iter().collect::<Vec<_>>(),
        second,
        "in turn instead of together, but the same"
    );
}

#[test]
fn the_pieces_of_a_stream_are_its_text() {
    for name in ["llama", "qwen2"] {
        let mut loaded = Loaded::tiny(name);
        let stream = |request: Request| Request { stream: true, ..request };
        let requests = [stream(tokens(0, 5)), tokens(1, 4), stream(tokens(2, 70))];
        let options = SamplingOptions { max_new_tokens: 60, ..options() };
        let became = answer(&mut loaded, &requests, &options);
        assert_eq!(became.samples.len(), 6);
        for (place, sample) in &became.samples {
            let piece = became.pieces.get(place).map(String::as_str);
            let wanted = requests[place.0].stream && !sample.text.is_empty();
            assert_eq!(piece, wanted.then_some(sample.text.as_str()), "{name} {place:?}");
        }
    }
}

#[test]
fn a_prompt_without_room_for_the_longest_answer_is_refused_where_that_is_wanted() {
    let mut loaded = Loaded::tiny("llama");
    let options = SamplingOptions { max_length: Some(30), ..options() };
    let became = answer(&mut loaded, &[tokens(0, 10), tokens(1, 11)], &options);
    assert_eq!(became.samples.keys().copied().collect::<Vec<_>>(), [(0, 0), (0, 1)]);
    let refused = "prompt 2 has 11 tokens, and max_length 30 leaves no room for 20 new ones";
    assert_eq!(became.refused.get(&1).map(String::as_str), Some(refused));
}
