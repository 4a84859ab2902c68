//! How a byte-level vocabulary cuts text into words before merging, by the name that GGUF gives it.

use serde_json::Value;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

/// A family of ways to cut text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// GPT-2's expression, which byte-level tokenizers have built in.
    Gpt2,
    /// Qwen2's: every digit alone.
    Qwen2,
    /// Llama 3's: digits in groups of up to three.
    Llama3,
    /// Mistral's Tekken: cut where small letters turn to capitals.
    Tekken,
}

/// The names in `tokenizer.ggml.pre` and what they stand for.
///
/// `smollm` is cut as by GPT-2, which is what transformers makes of these files; the models' own tokenizer
/// also sets each digit apart, which differs only where two or more spaces stand before a digit.
const NAMES: [(&str, Words); 13] = [
    ("default", Words::Gpt2),
    ("gpt-2", Words::Gpt2),
    ("smollm", Words::Gpt2),
    ("qwen2", Words::Qwen2),
    ("deepseek-r1-qwen", Words::Qwen2),
    ("megrez", Words::Qwen2),
    ("llama-bpe", Words::Llama3),
    ("llama3", Words::Llama3),
    ("llama-v3", Words::Llama3),
    ("falcon3", Words::Llama3),
    ("pixtral", Words::Llama3),
    ("smaug-bpe", Words::Llama3),
    ("tekken", Words::Tekken),
];

const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// The expressions of tokenizers, and llama.cpp's names for them.
const EXPRESSIONS: [(&str, &str); 3] = [(QWEN2, "qwen2"), (LLAMA3, "llama-bpe"), (TEKKEN, "tekken")];

impl Words {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, words)| *words)
    }

    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The name by which llama.cpp cuts texts as this pre-tokenizer of a `tokenizer.json` does, if there is one.
    pub(crate) fn name_of(pre_tokenizer: &Value) -> Option<&'static str> {
        let mut steps = Vec::new();
        flatten(pre_tokenizer, &mut steps);
        let (bytes, before) = steps.split_last()?;
        let is = |step: &Value, kind: &str| step.get("type").and_then(Value::as_str) == Some(kind);
        let flag = |step: &Value, name: &str| step.get(name).and_then(Value::as_bool);
        if !is(bytes, "ByteLevel") || flag(bytes, "add_prefix_space") == Some(true) {
            return None;
        }
        match (before, flag(bytes, "use_regex").unwrap_or(true)) {
            ([], true) => Some("gpt-2"),
            ([digits], true) if is(digits, "Digits") && flag(digits, "individual_digits") == Some(true) => {
                Some("smollm")
            }
            ([split], false) if is(split, "Split") && flag(split, "invert") != Some(true) => {
                if split.get("behavior").and_then(Value::as_str) != Some("Isolated") {
                    return None;
                }
                let expression = split.get("pattern")?.get("Regex")?.as_str()?;
                EXPRESSIONS.iter().find(|(known, _)| *known == expression).map(|(_, name)| *name)
            }
            _ => None,
        }
    }

    pub(super) fn pre_tokenizer(self) -> tokenizers::Result<PreTokenizerWrapper> {
        let expression = match self {
            Self::Gpt2 => return Ok(ByteLevel::new(false, true, true).into()),
            Self::Qwen2 => QWEN2,
            Self::Llama3 => LLAMA3,
            Self::Tekken => TEKKEN,
        };
        let pattern = SplitPattern::Regex(expression.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
        let bytes = ByteLevel::new(false, true, false);
        Ok(Sequence::new(vec![split.into(), bytes.into()]).into())
    }
}

/// Sequences within sequences, as one.
fn flatten<'a>(step: &'a Value, steps: &mut Vec<&'a Value>) {
    match step.get("pretokenizers").and_then(Value::as_array) {
        Some(inner) => inner.iter().for_each(|step| flatten(step, steps)),
        None => steps.push(step),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::Words;

    fn cut(words: Words, text: &str) -> Vec<String> {
        let mut pieces = PreTokenizedString::from(text);
        words.pre_tokenizer().unwrap().pre_tokenize(&mut pieces).unwrap();
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(piece, _, _)| piece.replace('Ġ', "_")).collect()
    }

    #[test]
    fn every_family_cuts_its_own_way() {
        assert_eq!(cut(Words::Gpt2, "It's 12345"), ["It", "'s", "_12345"]);
        assert_eq!(cut(Words::Qwen2, "IT'S 12"), ["IT", "'S", "_", "1", "2"]);
        assert_eq!(cut(Words::Llama3, "x 12345"), ["x", "_", "123", "45"]);
        assert_eq!(cut(Words::Tekken, "parseHTTPBody 1"), ["parse", "HTTPBody", "_", "1"]);
    }

    #[test]
    fn names_are_found_and_unknown_ones_are_not() {
        assert!(Words::names().all(|name| Words::from_name(name).is_some()));
        assert_eq!(Words::from_name("smollm"), Some(Words::Gpt2));
        assert_eq!(Words::from_name("chameleon"), None);
    }

    #[test]
    fn ways_to_cut_are_known_by_their_names() {
        for (words, name) in [
            (Words::Gpt2, "gpt-2"),
            (Words::Qwen2, "qwen2"),
            (Words::Llama3, "llama-bpe"),
            (Words::Tekken, "tekken"),
        ] {
            let written = serde_json::to_value(words.pre_tokenizer().unwrap()).unwrap();
            assert_eq!(Words::name_of(&written), Some(name));
            assert_eq!(Words::from_name(name), Some(words));
        }
        let bytes =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let smollm = json!({"type": "Sequence", "pretokenizers": [digits, bytes]});
        assert_eq!(Words::name_of(&smollm), Some("smollm"));
        assert_eq!(Words::name_of(&json!({"type": "Whitespace"})), None);
        assert_eq!(Words::name_of(&json!(null)), None);
    }
}
