//! Tokens to text piece by piece, such that the pieces together are the text of all tokens.
//!
//! What the next token may still change is held back: the bytes of a character that is not complete, which decode
//! to U+FFFD, and a run of SentencePiece's byte tokens, which becomes text as a whole. A token is decoded behind
//! some that came before, because the first token of a text is written in its own way; behind a few, so that a
//! text costs no more than its length.

use collimate_model::Tokenizer;

use crate::Result;

/// Tokens of a window above which it is cut where that changes no text.
const WIDE: usize = 16;

/// Tokens that stay after such a cut.
const KEPT: usize = 4;

/// The text of a growing row of tokens, without special tokens.
#[derive(Debug, Default)]
pub(crate) struct Detokeniser {
    /// The tokens that are decoded together.
    window: Vec<u32>,
    /// Bytes of the window's text that were given out.
    given: usize,
    /// Tokens at the window's beginning that are there for those behind them.
    context: usize,
}

impl Detokeniser {
    /// What the token adds to the text, together with what was held back, as far as no later token can change it.
    pub fn push(&mut self, token: u32, tokenizer: &Tokenizer) -> Result<String> {
        if tokenizer.is_skipped(token) {
            return Ok(String::new());
        }
        self.window.push(token);
        if tokenizer.is_byte(token) {
            return Ok(String::new());
        }
        let text = tokenizer.decode(&self.window, true)?;
        let complete = !text.ends_with(char::REPLACEMENT_CHARACTER);
        let sure = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(&text);
        let piece = sure.get(self.given..).unwrap_or_default().to_owned();
        self.given = self.given.max(sure.len());
        if complete {
            self.advance(tokenizer)?;
        } else if self.window.len() > WIDE {
            self.cut(&text, tokenizer)?;
        }
        Ok(piece)
    }

    /// What was held back, now that no token follows.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = tokenizer.decode(&self.window, true)?;
        let rest = text.get(self.given..).unwrap_or_default().to_owned();
        *self = Self::default();
        Ok(rest)
    }

    /// Drops the context, if the tokens behind it can take its place: they must have a text of their own, as what
    /// is written in its own way is the beginning of the text, be it the first token or an empty one before it.
    fn advance(&mut self, tokenizer: &Tokenizer) -> Result<()> {
        let text = tokenizer.decode(&self.window[self.context..], true)?;
        if !text.is_empty() {
            self.window.drain(..self.context);
            self.given = text.len();
            self.context = self.window.len();
        }
        Ok(())
    }

    /// Cuts a window that has grown, as in a long row of bytes that are no UTF-8, if its parts have the text of
    /// the whole: then no character lies across the cut.
    fn cut(&mut self, text: &str, tokenizer: &Tokenizer) -> Result<()> {
        let start = self.window.len() - KEPT;
        let (before, after) = self.window.split_at(start);
        let before = tokenizer.decode(before, true)?;
        if text.strip_prefix(&before) == Some(tokenizer.decode(after, true)?.as_str())
            && before.len() <= self.given
        {
            self.window.drain(..start);
            self.given -= before.len();
            self.context = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::LazyLock;

    use collimate_model::Model;
    use proptest::prelude::*;

    use super::*;

    static TOKENIZERS: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/tokenizer");
        let open = |name: &'static str| {
            let path = folder.join(name);
            let opened = if path.is_dir() {
                Tokenizer::from_folder(&path)
            } else {
                Model::open(&path).and_then(|model| model.tokenizer())
            };
            (name, opened.unwrap())
        };
        ["bytes", "words", "pieces", "bytes.gguf", "words.gguf", "pieces.gguf"].map(open).into()
    });

    /// The pieces of the tokens, one a token and one for the end.
    fn pieces(tokens: &[u32], tokenizer: &Tokenizer) -> Vec<String> {
        let mut detokeniser = Detokeniser::default();
        let mut pieces: Vec<String> =
            tokens.iter().map(|&token| detokeniser.push(token, tokenizer).unwrap()).collect();
        pieces.push(detokeniser.finish(tokenizer).unwrap());
        pieces
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn pieces_together_are_the_whole(tokens in proptest::collection::vec(0u32..650, 0..60)) {
            for (name, tokenizer) in TOKENIZERS.iter() {
                let whole = tokenizer.decode(&tokens, true).unwrap();
                prop_assert_eq!(pieces(&tokens, tokenizer).concat(), whole, "{}", name);
            }
        }

        #[test]
        fn pieces_of_a_text_are_the_text(text in "[a-c ▁é你😀\\n�]{0,40}") {
            for (name, tokenizer) in TOKENIZERS.iter() {
                let tokens = tokenizer.encode(&text, false).unwrap();
                let whole = tokenizer.decode(&tokens, true).unwrap();
                prop_assert_eq!(pieces(&tokens, tokenizer).concat(), whole, "{}", name);
            }
        }
    }

    #[test]
    fn a_character_is_given_out_when_it_is_complete() {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let text = "a 😀b";
            let tokens = tokenizer.encode(text, false).unwrap();
            let pieces = pieces(&tokens, tokenizer);
            assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{name}: {pieces:?}");
            assert!(pieces[..tokens.len()].concat() == text, "{name}: {pieces:?}");
        }
    }

    #[test]
    fn the_window_stays_small_whatever_is_written() {
        for (name, tokenizer) in &TOKENIZERS[..2] {
            let (mut detokeniser, mut text) = (Detokeniser::default(), String::new());
            let half = tokenizer.id("©").unwrap(); // The byte 0xA9, of which no character begins.
            for _ in 0..500 {
                text += &detokeniser.push(half, tokenizer).unwrap();
                assert!(detokeniser.window.len() <= WIDE, "{name}");
            }
            text += &detokeniser.finish(tokenizer).unwrap();
            assert_eq!(text, "\u{fffd}".repeat(500), "{name}");
        }
    }
}
