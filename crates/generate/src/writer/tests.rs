//! Samples written from made-up logits: how they end, their text, their log-probs.

use std::path::Path;

use collimate_model::Model;
use proptest::prelude::*;

use super::*;

/// A small tokenizer: `bytes` is byte-level, `pieces` SentencePiece.
fn tokenizer(name: &str) -> Tokenizer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/tokenizer").join(name);
    if path.is_dir() { Tokenizer::from_folder(&path) } else { Model::open(&path).unwrap().tokenizer() }
        .unwrap()
}

/// Logits of which this token's is the highest.
fn peak(token: u32) -> Vec<f32> {
    let mut logits = vec![0.0; 700];
    logits[token as usize] = 10.0;
    logits
}

/// Writes the tokens, as long as nothing ends the sample: the pieces, and the sample.
fn written(options: &SamplingOptions, tokenizer: &Tokenizer, tokens: &[u32]) -> (Vec<String>, Sample) {
    let rules = Rules::new(options, tokenizer).unwrap();
    let mut writer = Writer::new(&rules, [0, 0], &[1], options.max_new_tokens);
    let mut pieces = Vec::new();
    for &token in tokens {
        writer.write(&peak(token), 1).unwrap();
        pieces.push(writer.piece().unwrap());
        if writer.ended() {
            break;
        }
    }
    (pieces, writer.finish().unwrap())
}

fn stopping(stop_strings: &[&str]) -> SamplingOptions {
    let stop_strings = stop_strings.iter().map(|&text| text.to_owned()).collect();
    SamplingOptions { stop_strings, ..SamplingOptions::default() }
}

#[test]
fn rows_may_be_written_in_parallel() {
    fn is_send<T: Send>() {}
    is_send::<Writer<'_>>();
}

#[test]
fn a_stop_string_split_over_tokens_ends_the_text_before_it() {
    for name in ["bytes", "words", "pieces"] {
        let tokenizer = tokenizer(name);
        let tokens = tokenizer.encode("One two. Question: three", false).unwrap();
        let (pieces, sample) = written(&stopping(&["###", " Question:"]), &tokenizer, &tokens);
        assert_eq!(sample.text, "One two.", "{name}");
        assert_eq!(sample.finish_reason, FinishReason::Stop);
        assert_eq!(pieces.concat(), sample.text, "{name}");
        assert!(sample.tokens.len() < tokens.len() && tokens.starts_with(&sample.tokens), "{name}");
    }
}

#[test]
fn a_stop_string_within_a_token_keeps_what_stands_before_it() {
    let tokenizer = tokenizer("words");
    let long = (0..500).find(|&id| tokenizer.decode(&[id], true).unwrap().trim().len() >= 4).unwrap();
    let text = tokenizer.decode(&[long], true).unwrap();
    let (first, rest) = text.trim_start().split_at(1);
    let middle = rest.split_at(1).0;
    let (pieces, sample) = written(&stopping(&[middle]), &tokenizer, &[long]);
    assert_eq!(sample.text.trim_start(), first, "{text:?}");
    assert_eq!(pieces, [sample.text]);
    assert_eq!(sample.tokens, [long]);
}

#[test]
fn a_broken_character_at_the_end_becomes_the_replacement_character() {
    for name in ["bytes", "pieces"] {
        let tokenizer = tokenizer(name);
        let mut tokens = tokenizer.encode("a😀", false).unwrap();
        tokens.pop();
        let options = SamplingOptions { max_new_tokens: tokens.len(), ..SamplingOptions::default() };
        let (pieces, sample) = written(&options, &tokenizer, &tokens);
        assert_eq!(sample.finish_reason, FinishReason::Length);
        assert!(sample.text.starts_with("a\u{fffd}"), "{name}: {:?}", sample.text);
        assert_eq!(sample.text, tokenizer.decode(&tokens, true).unwrap());
        assert_eq!(pieces.concat(), sample.text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn pieces_are_the_text_with_and_without_stop_strings(
        tokens in proptest::collection::vec(3u32..500, 1..40), stop in "[a-e ]{1,3}",
    ) {
        for name in ["bytes", "pieces"] {
            let tokenizer = tokenizer(name);
            let options = SamplingOptions { max_new_tokens: tokens.len(), ..stopping(&[&stop]) };
            let (pieces, sample) = written(&options, &tokenizer, &tokens);
            prop_assert_eq!(pieces.concat(), sample.text.as_str());
            let whole = tokenizer.decode(&tokens, true).unwrap();
            match whole.find(&stop) {
                Some(start) => prop_assert_eq!(sample.text, &whole[..start]),
                None => prop_assert_eq!(sample.text, whole),
            }
        }
    }
}

#[test]
fn below_min_new_tokens_no_token_ends_an_answer_but_a_stop_string_does() {
    let tokenizer = tokenizer("bytes");
    let end = tokenizer.eos_ids()[0];
    let options = SamplingOptions { min_new_tokens: 3, ..stopping(&["!"]) };
    let (_, sample) = written(&options, &tokenizer, &[end; 9]);
    assert_eq!(sample.tokens.len(), 4);
    assert!(sample.tokens[..3].iter().all(|token| !tokenizer.eos_ids().contains(token)));
    assert_eq!((sample.tokens[3], sample.finish_reason), (end, FinishReason::Stop));
    let (_, sample) = written(&options, &tokenizer, &tokenizer.encode("!", false).unwrap());
    assert_eq!((sample.text.as_str(), sample.finish_reason), ("", FinishReason::Stop));
}

#[test]
fn log_probs_are_those_of_the_unchanged_logits() {
    let tokenizer = tokenizer("bytes");
    let logits: Vec<f32> = (0..500).map(|i| ((i * 7919) % 1013) as f32 * 0.01 - 3.0).collect();
    let options = SamplingOptions {
        logprobs: Some(5),
        do_sample: true,
        temperature: 0.3,
        repetition_penalty: 3.0,
        ..SamplingOptions::default()
    };
    let rules = Rules::new(&options, &tokenizer).unwrap();
    let mut writer = Writer::new(&rules, [0, 0], &[1], 20);
    for _ in 0..20 {
        writer.write(&logits, 1).unwrap();
    }
    let sample = writer.finish().unwrap();
    let norm = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    let expected = |token: u32| f64::from(logits[token as usize]) - norm;
    let mut order: Vec<u32> = (0..500).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    let log_probs = sample.logprobs.unwrap();
    assert_eq!(log_probs.len(), 20);
    for (found, &token) in log_probs.iter().zip(&sample.tokens) {
        assert!((f64::from(found.logprob) - expected(token)).abs() < 1e-6);
        assert_eq!(found.token, tokenizer.decode(&[token], false).unwrap());
        assert_eq!(found.top_logprobs.len(), 5);
        for (top, &token) in found.top_logprobs.iter().zip(&order) {
            assert!((f64::from(top.logprob) - expected(token)).abs() < 1e-6);
            assert_eq!(top.token, tokenizer.decode(&[token], false).unwrap());
        }
    }
}
