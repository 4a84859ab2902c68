//! Generation: PyTorch's tokens, and the bits of one pass over the whole text however it is cut, shared and
//! accompanied.

use crate::support;
use crate::support::{TINY, Tiny, append, argmax, fixtures};
use collimate_engine::{CpuEngine, Decoder, Dtype, Error, Sequence, Span};
use collimate_model::{Lora, Model};

const MEMORY: u64 = 1 << 24;

#[test]
fn greedy_tokens_are_pytorchs() {
    for name in TINY {
        let mut tiny = Tiny::open(name);
        let greedy = &tiny.expected.greedy;
        let mut decoder = tiny.engine.decoder([&tiny.lora], MEMORY).unwrap();
        let mut sequence = decoder.begin(Some(0), &greedy.prompt);
        let mut logits = append(&mut decoder, &mut sequence, &greedy.prompt);
        for (expected, margin) in greedy.generated.iter().zip(&greedy.margins) {
            let token = argmax(&logits);
            assert!(token == *expected || *margin < 1e-4, "{name}: {token} instead of {expected}");
            logits = append(&mut decoder, &mut sequence, &[*expected]);
        }
    }
}

#[test]
fn log_probs_of_its_logits_are_pytorchs() {
    for name in TINY {
        let mut tiny = Tiny::open(name);
        let sequence = &tiny.expected.sequences[2];
        let mut decoder = tiny.engine.decoder([&tiny.lora], MEMORY).unwrap();
        for (adapter, expected) in
            [(None, &sequence.log_probs_f64), (Some(0), &sequence.adapter_log_probs_f64)]
        {
            let mut written = decoder.begin(adapter, &sequence.ids);
            for (token, expected) in sequence.ids.windows(2).zip(expected) {
                let logits = append(&mut decoder, &mut written, &token[..1]);
                let sum = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
                let got = f64::from(logits[token[1] as usize]) - sum;
                assert!((got - expected).abs() < 5e-5, "{name}: {got} instead of {expected}");
            }
        }
    }
}

/// A text without a pattern that matters.
fn text(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * 37 + seed * 101 + i * i % 13) % 88 + 1).collect()
}

/// The logits after the whole text, in one step of its own.
fn whole(engine: &mut CpuEngine, lora: Option<&Lora>, tokens: &[u32]) -> Vec<f32> {
    let mut decoder = engine.decoder(lora, MEMORY).unwrap();
    let mut sequence = decoder.begin(lora.map(|_| 0), tokens);
    append(&mut decoder, &mut sequence, tokens)
}

#[test]
fn cuts_company_and_threads_change_no_bit() {
    for (name, dtype) in TINY
        .into_iter()
        .flat_map(|name| [Dtype::Float32, Dtype::Bfloat16, Dtype::Int8].map(|dtype| (name, dtype)))
    {
        let mut tiny = Tiny::open_as(name, dtype);
        let other = Lora { values: tiny.lora.values.iter().map(|x| -x).collect(), ..tiny.lora.clone() };
        let loras = [tiny.lora.clone(), other];
        let texts = [text(1, 200), text(2, 9), text(3, 70), text(4, 131)];
        let adapters = [Some(0), None, Some(1), Some(0)];
        let expected: Vec<_> = texts
            .iter()
            .zip(adapters)
            .map(|(text, adapter)| whole(&mut tiny.engine, adapter.map(|number: usize| &loras[number]), text))
            .collect();
        let mut engine = support::engine(&Model::open(&tiny.folder).unwrap(), 1, dtype);
        let mut decoder = engine.decoder(&loras, MEMORY).unwrap();
        let mut sequences: Vec<Sequence> =
            texts.iter().zip(adapters).map(|(text, adapter)| decoder.begin(adapter, text)).collect();
        // Steps of a few tokens of some of them, now and then of many, until all have reached their end.
        let mut logits = Vec::new();
        for round in 0.. {
            let mut spans: Vec<Span<'_>> = Vec::new();
            for (i, (sequence, text)) in sequences.iter_mut().zip(&texts).enumerate() {
                let left = text.len() - 1 - sequence.len();
                let tokens = [1, 0, 3, 80, 1, 17][(round + i) % 6].min(left);
                if tokens > 0 {
                    assert!(decoder.reserve(sequence, tokens));
                    let tokens = &text[sequence.len()..][..tokens];
                    spans.push(Span { sequence, tokens });
                }
            }
            if !spans.is_empty() {
                decoder.step(&mut spans, &mut logits).unwrap();
            } else if sequences.iter().zip(&texts).all(|(sequence, text)| sequence.len() == text.len() - 1) {
                break;
            }
        }
        let mut spans: Vec<Span<'_>> = Vec::new();
        for (sequence, text) in sequences.iter_mut().zip(&texts) {
            assert!(decoder.reserve(sequence, 1));
            spans.push(Span { sequence, tokens: &text[text.len() - 1..] });
        }
        decoder.step(&mut spans, &mut logits).unwrap();
        assert!(logits == expected.concat(), "{name} in {dtype}");
    }
}

#[test]
fn shared_and_kept_prefixes_change_no_bit() {
    for name in TINY {
        let mut tiny = Tiny::open(name);
        let prompt = text(5, 150);
        let continued = |i: u32| [&prompt[..], &text(i, 40)].concat();
        let alike = [&prompt[..140], &text(9, 60)].concat();
        let expected: Vec<_> = (10..13).map(|i| whole(&mut tiny.engine, None, &continued(i))).collect();
        let expected_alike = whole(&mut tiny.engine, None, &alike);
        let mut decoder = tiny.engine.decoder([&tiny.lora], MEMORY).unwrap();
        let mut first = decoder.begin(None, &prompt);
        append(&mut decoder, &mut first, &prompt);
        decoder.keep(&mut first, &prompt);
        let mut second = first.fork();
        let mut third = second.fork();
        for (i, sequence) in [&mut first, &mut second, &mut third].into_iter().enumerate() {
            assert_eq!(append(&mut decoder, sequence, &text(10 + i as u32, 40)), expected[i], "{name} {i}");
        }
        // What is common to the beginnings is at hand in whole pages, for the same adapter alone.
        assert_eq!(decoder.begin(Some(0), &alike).len(), 0);
        let mut sequence = decoder.begin(None, &alike);
        assert_eq!(sequence.len(), 2 * Decoder::PAGE);
        let rest = &alike[sequence.len()..];
        assert_eq!(append(&mut decoder, &mut sequence, rest), expected_alike, "{name}");
        assert_eq!(decoder.begin(None, &prompt[..128]).len(), Decoder::PAGE, "the last token is left");
    }
}

#[test]
fn adapters_that_alternate_over_many_rows_are_each_as_if_alone() {
    let mut tiny = Tiny::open("qwen2");
    let texts: Vec<_> = (0..80).map(|i| text(i, 3 + i as usize % 5)).collect();
    let adapter = |i: usize| i.is_multiple_of(2).then_some(0);
    let expected: Vec<_> =
        (0..80).map(|i| whole(&mut tiny.engine, adapter(i).map(|_| &tiny.lora), &texts[i])).collect();
    let mut decoder = tiny.engine.decoder([&tiny.lora], MEMORY).unwrap();
    let mut sequences: Vec<_> = (0..80).map(|i| decoder.begin(adapter(i), &texts[i])).collect();
    let mut spans = Vec::new();
    for (sequence, tokens) in sequences.iter_mut().zip(&texts) {
        assert!(decoder.reserve(sequence, tokens.len()));
        spans.push(Span { sequence, tokens });
    }
    let mut logits = Vec::new();
    decoder.step(&mut spans, &mut logits).unwrap();
    assert!(logits == expected.concat());
}

#[test]
fn what_is_kept_goes_end_first_and_never_in_vain() {
    let mut tiny = Tiny::open("llama");
    let page = MEMORY / (tiny.engine.decoder([], MEMORY).unwrap().capacity() / Decoder::PAGE) as u64;
    // A quarter of 12 pages may hold what nobody uses.
    let mut decoder = tiny.engine.decoder([], 12 * page).unwrap();
    let keep = |decoder: &mut Decoder<'_>, tokens: &[u32]| {
        let mut sequence = decoder.begin(None, tokens);
        let left = tokens[sequence.len()..].to_vec();
        append(decoder, &mut sequence, &left);
        decoder.keep(&mut sequence, tokens);
    };
    let (long, other) = (text(1, 129), text(2, 65));
    keep(&mut decoder, &long);
    keep(&mut decoder, &other);
    let mut large = decoder.begin(None, &text(3, 700));
    assert!(!decoder.reserve(&mut large, 64 * 13), "more than there is");
    assert_eq!(decoder.begin(None, &long).len(), 128, "nothing was given up for what cannot be");
    assert_eq!(decoder.begin(None, &other).len(), 64);
    // Used in this order, they go in this order, the end of a text before its beginning.
    assert!(decoder.reserve(&mut large, 64 * 10));
    assert_eq!(decoder.begin(None, &long).len(), 64);
    assert!(decoder.reserve(&mut large, 64 * 11));
    assert_eq!([&long, &other].map(|tokens| decoder.begin(None, tokens).len()), [64, 0]);
}

#[test]
fn memory_is_kept_to_its_budget_and_given_back() {
    let mut tiny = Tiny::open("llama");
    let page = {
        let decoder = tiny.engine.decoder([], MEMORY).unwrap();
        MEMORY / (decoder.capacity() / Decoder::PAGE) as u64
    };
    let mut decoder = tiny.engine.decoder([], 4 * page + 1).unwrap();
    assert_eq!(decoder.capacity(), 4 * Decoder::PAGE);
    let (prompt, other) = (text(1, 128), text(2, 200));
    let mut sequence = decoder.begin(None, &prompt);
    append(&mut decoder, &mut sequence, &prompt);
    decoder.keep(&mut sequence, &prompt);
    let mut fork = sequence.fork();
    assert!(decoder.reserve(&mut sequence, 1) && decoder.reserve(&mut fork, 64));
    assert!(decoder.reserve(&mut sequence, 64), "reserved already");
    assert!(!decoder.reserve(&mut fork, 65), "five pages");
    drop(fork);
    let mut waiting = decoder.begin(None, &other);
    assert!(!decoder.reserve(&mut waiting, 65));
    drop(sequence);
    // The kept prefix makes room, its end first.
    assert!(decoder.reserve(&mut waiting, 192));
    assert_eq!(decoder.begin(None, &text(1, 129)).len(), Decoder::PAGE);
    assert!(decoder.reserve(&mut waiting, 200));
    assert_eq!(decoder.begin(None, &text(1, 129)).len(), 0);
}

#[test]
fn what_cannot_be_appended_is_an_error() {
    let mut tiny = Tiny::open("llama");
    let other = Lora::load(
        &fixtures().join("tiny/qwen2/adapter"),
        Model::open(&fixtures().join("tiny/qwen2")).unwrap().config(),
    );
    assert!(matches!(tiny.engine.decoder([&other.unwrap()], MEMORY), Err(Error::Adapter { .. })));
    let mut decoder = tiny.engine.decoder([], MEMORY).unwrap();
    let mut sequence = decoder.begin(None, &[1, 2]);
    let mut step = |decoder: &mut Decoder<'_>, tokens: &[u32]| {
        decoder.step(&mut [Span { sequence: &mut sequence, tokens }], &mut Vec::new())
    };
    assert!(matches!(step(&mut decoder, &[1]), Err(Error::Full { tokens: 0 })));
    assert!(matches!(step(&mut decoder, &[]), Err(Error::NoTokens)));
    assert!(matches!(step(&mut decoder, &[100_000]), Err(Error::Token { token: 100_000, .. })));
}
