//! Which of the two numbers is the likelier one, where a judgement names one.

use std::cmp::Ordering;
use std::path::Path;

use collimate_data::{Branch, PreferenceExample};
use collimate_generate::Prompt;
use collimate_judge::{Language, Number, verdict_at};
use collimate_model::Tokenizer;
use collimate_run::Context;

use super::Reason;
use super::pair::Verdict;
use crate::Error;
use crate::generator::BuiltIn;
use crate::log_probs::{self, Subject};

/// The numbers of the answers as they are written.
const NUMBERS: [&str; 2] = ["1", "2"];

/// How log-probs are asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Where the model lies.
    pub model: &'a Path,
    /// The adapter's name.
    pub adapter: Option<&'a str>,
    pub micro_batch_tokens: usize,
    /// Where log-probs are kept.
    pub cache: Option<&'a Path>,
}

impl Reason {
    /// The judgement up to its number; none where the text has no number.
    pub(super) fn opening(self, language: Language, text: &str) -> Option<String> {
        match self {
            Self::None => Some(format!("{{\"{}\": ", language.verdict_key())),
            Self::Written => verdict_at(text).map(|(_, at)| text[..at].to_owned()),
        }
    }
}

/// A prompt, the opening of a judgement, and either number.
pub(super) fn example(model: &BuiltIn, prompt: &Prompt, opening: &str) -> Result<PreferenceExample, Error> {
    let (mut text, special) = match prompt {
        Prompt::Chat(messages) => (model.render(messages)?, false),
        Prompt::Text(text) => (text.clone(), true),
        Prompt::Tokens(tokens) => (model.tokenizer().decode(tokens, false)?, false),
    };
    text += opening;
    numbered(model.tokenizer(), &text, special)
}

/// Two sequences that differ in their number. Where they part is up to the tokenizer: a number may share a token with
/// what stands before it.
fn numbered(tokenizer: &Tokenizer, text: &str, special: bool) -> Result<PreferenceExample, Error> {
    let encode = |number: &str| tokenizer.encode(&format!("{text}{number}"), special);
    let sequences = [encode(NUMBERS[0])?, encode(NUMBERS[1])?];
    let shared = sequences[0].iter().zip(&sequences[1]).take_while(|(first, second)| first == second).count();
    let branch =
        |tokens: &Vec<u32>| Branch { tokens: tokens[shared..].to_vec(), trained_from: shared.max(1) };
    Ok(PreferenceExample {
        shared: sequences[0][..shared].to_vec(),
        branches: sequences.iter().map(branch).collect(),
        weight: 1.0,
        margin: 0.0,
        desirable: true,
        row: 0,
        pair_type: None,
        tag: None,
    })
}

/// The likelier number of each example, and the seconds that this took.
pub(super) fn verdicts(
    model: &mut BuiltIn,
    examples: &[PreferenceExample],
    asked: Asked<'_>,
    context: &Context,
) -> Result<(Vec<Verdict>, f64), Error> {
    let Asked { model: path, adapter, micro_batch_tokens, cache } = asked;
    let (engine, adapter) = model.engine(adapter);
    let subject = Subject { model: path, adapter, micro_batch_tokens, task: "measuring verdicts" };
    let all: Vec<usize> = (0..examples.len()).collect();
    let found = log_probs::compute(engine, subject, (examples, &all), cache, context)?;
    let verdict = |(number, example): (usize, &PreferenceExample)| {
        let (first, second) = found.of(number)?.split_at(example.trained(0));
        let sum = |log_probs: &[f32]| log_probs.iter().copied().map(f64::from).sum::<f64>();
        Some(Verdict::of_log_probs(sum(first), sum(second)))
    };
    let verdicts = examples.iter().enumerate().map(|example| verdict(example).unwrap_or_default());
    Ok((verdicts.collect(), found.seconds))
}

impl Verdict {
    /// The likelier of both numbers; of equally likely ones none.
    fn of_log_probs(first: f64, second: f64) -> Self {
        let likelier = first.partial_cmp(&second).and_then(|order| match order {
            Ordering::Greater => Some(Number::First),
            Ordering::Less => Some(Number::Second),
            Ordering::Equal => None,
        });
        Self { number: likelier, first: Some(1.0 / (1.0 + (second - first).exp())) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_judgement_is_opened_up_to_its_number() {
        let cases = [
            (
                r#"{"reason": "It is 2.", "better_answer": 1}"#,
                Some(r#"{"reason": "It is 2.", "better_answer": "#),
            ),
            (r#"{"原因": "短", "更好的回答": "2"}"#, Some(r#"{"原因": "短", "更好的回答": ""#)),
            (r#"{"Better answer": "Answer 2"}"#, Some(r#"{"Better answer": "Answer "#)),
            // A key within the reason names nothing.
            (r#"{"better_answer": 1, "reason": "better_answer: 2"}"#, Some(r#"{"better_answer": "#)),
            (r#"{"better_answer": 12}"#, None),
            ("The 1 is better.", None),
            (r#"{"reason": "It is"#, None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Reason::Written.opening(Language::English, text).as_deref(), expected, "{text}");
        }
        let none = Reason::None.opening(Language::Chinese, "").unwrap();
        assert_eq!(none, r#"{"更好的回答": "#);
    }

    /// Log-probs ln 0.6 and ln 0.2: of both together, the first has 3/4.
    #[test]
    fn the_likelier_number_is_the_verdict() {
        let found = Verdict::of_log_probs(0.6_f64.ln(), 0.2_f64.ln());
        assert_eq!(found.number, Some(Number::First));
        assert!((found.first.unwrap() - 0.75).abs() < 1e-15);
        assert_eq!(Verdict::of_log_probs(-3.0, -2.0).number, Some(Number::Second));
        assert_eq!(Verdict::of_log_probs(-1.0, -1.0), Verdict { number: None, first: Some(0.5) });
    }

    #[allow(clippy::disallowed_methods, reason = "a test reads where real models are")]
    fn models() -> Vec<PathBuf> {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny");
        let real = std::env::var_os("COLLIMATE_TEST_MODELS").map(PathBuf::from);
        let real = real.iter().flat_map(|folder| ["smol", "qwen"].map(|name| folder.join(name)));
        [tiny.join("llama"), tiny.join("qwen2")].into_iter().chain(real).collect()
    }

    /// What the model reads is the text with its number, whatever the tokenizer joins; and the sequences part where the
    /// number stands, not before.
    #[test]
    fn sequences_part_at_the_number() {
        for folder in models() {
            let tokenizer = Tokenizer::from_folder(&folder).unwrap();
            for text in
                [r#"{"better_answer": "#, r#"{"better_answer":"#, r#"{"更好的回答": ""#, "better_answer："]
            {
                let example = numbered(&tokenizer, text, false).unwrap();
                assert!(!example.shared.is_empty());
                for (branch, number) in example.branches.iter().zip(NUMBERS) {
                    let tokens = [example.shared.clone(), branch.tokens.clone()].concat();
                    assert_eq!(tokens, tokenizer.encode(&format!("{text}{number}"), false).unwrap());
                    let ending = tokenizer.decode(&branch.tokens, true).unwrap();
                    assert_eq!((ending.trim(), branch.tokens.len()), (number, 1), "{folder:?} {text}");
                    assert_eq!(branch.trained_from, example.shared.len());
                }
            }
        }
    }
}
