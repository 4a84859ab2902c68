//! What a token adds to a text, as bytes: a token may hold a part of a character.

use std::sync::LazyLock;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::{Decoder, Tokenizer};

/// The bytes for which GPT-2's alphabet has a character of their own number; the others follow from U+0100 on.
const OWN: [std::ops::RangeInclusive<u8>; 3] = [b'!'..=b'~', 0xa1..=0xac, 0xae..=0xff];

/// By byte, the character that stands for it in byte-level vocabularies.
/// Source: `bytes_to_unicode` of GPT-2.
static ALPHABET: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        let own = OWN.iter().any(|range| range.contains(&byte));
        if own { char::from(byte) } else { others.next().unwrap_or_default() }
    })
});

/// The bytes of the token within a text; `None` where there is no such token, or the tokenizer's decoder does not
/// write token after token.
pub(super) fn bytes(tokenizer: &Tokenizer, id: u32) -> Option<Vec<u8>> {
    let token = tokenizer.id_to_token(id)?;
    let mut steps = Vec::new();
    flatten(tokenizer.get_decoder()?, &mut steps);
    let byte_level = |step: &&DecoderWrapper| matches!(step, DecoderWrapper::ByteLevel(_));
    if steps.iter().any(byte_level) {
        return Some(of_alphabet(&token).unwrap_or_else(|| token.into_bytes()));
    }
    let falls_back = steps.iter().any(|step| matches!(step, DecoderWrapper::ByteFallback(_)));
    if let Some(byte) = fallback_byte(&token).filter(|_| falls_back) {
        return Some(vec![byte]);
    }
    let text = steps.into_iter().try_fold(token, |text, step| match step {
        // The first token of a text is written in its own way.
        DecoderWrapper::Replace(_) | DecoderWrapper::Metaspace(_) => {
            step.decode_chain(vec![String::new(), text]).ok()?.pop()
        }
        // These look at the text as a whole.
        DecoderWrapper::ByteFallback(_) | DecoderWrapper::Fuse(_) | DecoderWrapper::Strip(_) => Some(text),
        _ => None,
    })?;
    Some(text.into_bytes())
}

/// The byte of a token such as `<0x0A>`, by which SentencePiece writes what it has no token for.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn of_alphabet(token: &str) -> Option<Vec<u8>> {
    let byte = |c: char| ALPHABET.iter().position(|&other| other == c).map(|byte| byte as u8);
    token.chars().map(byte).collect()
}

fn flatten<'a>(decoder: &'a DecoderWrapper, steps: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().for_each(|decoder| flatten(decoder, steps));
        }
        step => steps.push(step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_that_of_the_library() {
        let library = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert_eq!(
            ALPHABET.iter().copied().collect::<std::collections::HashSet<_>>(),
            library.into_iter().collect()
        );
        assert_eq!(of_alphabet("ĠaĊ"), Some(b" a\n".to_vec()));
        assert_eq!(of_alphabet("你"), None);
    }

    #[test]
    fn fallback_bytes_have_two_digits() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        assert_eq!(fallback_byte("<0x0>"), None);
        assert_eq!(fallback_byte("<0xGG>"), None);
    }
}
