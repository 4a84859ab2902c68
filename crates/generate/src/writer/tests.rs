//! Samples written from made-up logits: how they end, their text, their log-probs, their form.

use std::path::Path;

use collimate_model::Model;
use collimate_run::random::stream;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Constraint;

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

/// Samples from random logits, which know nothing of any form.
fn babbled(options: &SamplingOptions, tokenizer: &Tokenizer, count: u64) -> Vec<Sample> {
    let rules = Rules::new(options, tokenizer).unwrap();
    let sample = |number: u64| {
        let (mut writer, mut random) =
            (Writer::new(&rules, [0, number], &[1], options.max_new_tokens), stream(1, &[number]));
        while !writer.ended() {
            let logits: Vec<f32> = (0..700).map(|_| 4.0 * random.random() as f32).collect();
            writer.write(&logits, 1).unwrap();
        }
        writer.finish().unwrap()
    };
    (0..count).map(sample).collect()
}

fn constrained(constraint: Constraint) -> SamplingOptions {
    SamplingOptions {
        do_sample: true,
        max_new_tokens: 1_000,
        constraint: Some(constraint),
        ..SamplingOptions::default()
    }
}

#[test]
fn whatever_the_vocabulary_a_constrained_answer_fits() {
    let schema = json!({
        "type": "object",
        "properties": {"grund": {"type": "string", "maxLength": 20}, "wahl": {"enum": [1, 2]}},
        "required": ["grund", "wahl"],
        "additionalProperties": false,
    });
    let choices = ["Yes", "Yes, sure", "No <|im_end|> \"no\"", "你好"].map(str::to_owned);
    for name in ["bytes", "words", "pieces", "bytes.gguf", "words.gguf", "pieces.gguf"] {
        let tokenizer = tokenizer(name);
        for sample in babbled(&constrained(Constraint::Json(schema.clone())), &tokenizer, 20) {
            assert_eq!(sample.finish_reason, FinishReason::Stop, "{name}: {}", sample.text);
            let value: Value = serde_json::from_str(&sample.text).expect(&sample.text);
            assert!(value["grund"].as_str().unwrap().chars().count() <= 20, "{name}: {}", sample.text);
            assert!(value["wahl"] == 1 || value["wahl"] == 2, "{name}: {}", sample.text);
            assert_eq!(value.as_object().unwrap().len(), 2);
        }
        for sample in babbled(&constrained(Constraint::Choice(choices.to_vec())), &tokenizer, 20) {
            assert!(choices.contains(&sample.text), "{name}: {:?}", sample.text);
        }
        for sample in babbled(&constrained(Constraint::Regex("[a-c]{3}/x(é|你)?".to_owned())), &tokenizer, 20)
        {
            let rest = sample.text.trim_start_matches(['a', 'b', 'c']);
            assert!(["/x", "/xé", "/x你"].contains(&rest), "{name}: {:?}", sample.text);
            assert_eq!(sample.text.len() - rest.len(), 3, "{name}: {:?}", sample.text);
        }
    }
}

#[test]
fn a_complete_answer_ends_by_itself_and_a_cut_one_by_its_length() {
    let tokenizer = tokenizer("words");
    let options = constrained(Constraint::Choice(vec!["abc".to_owned()]));
    let sample = babbled(&options, &tokenizer, 1).remove(0);
    assert_eq!((sample.text.as_str(), sample.finish_reason), ("abc", FinishReason::Stop));
    assert_eq!(tokenizer.decode(&sample.tokens, false).unwrap(), "abc", "without an end token");
    let options =
        SamplingOptions { max_new_tokens: 1, ..constrained(Constraint::Regex("[0-9]{9}".to_owned())) };
    let sample = babbled(&options, &tokenizer, 1).remove(0);
    assert_eq!(sample.finish_reason, FinishReason::Length);
    assert!(sample.text.bytes().all(|byte| byte.is_ascii_digit()));
}

#[test]
fn an_end_token_is_allowed_just_where_the_answer_may_end() {
    let tokenizer = tokenizer("bytes");
    let end = tokenizer.eos_ids()[0];
    let options = SamplingOptions {
        constraint: Some(Constraint::Regex("(ab)+".to_owned())),
        ..SamplingOptions::default()
    };
    // The end token is the likeliest throughout.
    let (_, sample) = written(&options, &tokenizer, &[end; 20]);
    assert_eq!((sample.text.as_str(), sample.finish_reason), ("ab", FinishReason::Stop));
    assert_eq!(sample.tokens.last(), Some(&end));
}

#[test]
fn a_constraint_that_cannot_be_met_or_read_is_an_error_before_anything_is_written() {
    let tokenizer = tokenizer("bytes");
    let error = |constraint: Constraint| {
        let options = constrained(constraint);
        Rules::new(&options, &tokenizer).err().unwrap()
    };
    for schema in [
        json!({"type": "integer", "minimum": 3, "maximum": 2}),
        json!({"type": "object", "properties": {"a": false}, "required": ["a"]}),
        json!({"enum": []}),
        json!(false),
    ] {
        let error = error(Constraint::Json(schema.clone()));
        assert!(matches!(error, Error::UnmetConstraint { .. }), "{schema}: {error:?}");
    }
    for schema in [json!({"type": "nonsense"}), json!({"$ref": "#/nowhere"}), json!(3), json!({"not": {}})] {
        let error = error(Constraint::Json(schema.clone()));
        assert!(matches!(error, Error::InvalidConstraint { .. }), "{schema}: {error:?}");
        assert!(!error.to_string().contains("panic"), "{schema}: {error}");
    }
    let unmet = error(Constraint::Json(json!({"type": "integer", "minimum": 3, "maximum": 2})));
    assert_eq!(
        unmet.to_string(),
        "no answer can meet the constraint: Unsatisfiable schema: minimum (3) is greater than maximum (2)"
    );
    for regex in ["(", "a(?=b)", "[z-a]"] {
        let error = error(Constraint::Regex(regex.to_owned()));
        assert!(matches!(error, Error::InvalidConstraint { .. }), "{regex}: {error:?}");
    }
}
