//! The text of a sample while it grows: read token by token, cut at stop strings, given out in pieces.

use collimate_model::Tokenizer;

use crate::Result;
use crate::detokeniser::Detokeniser;
use crate::stops::Stops;

/// A growing text.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    tokenizer: &'a Tokenizer,
    stops: Stops<'a>,
    detokeniser: Detokeniser,
    /// Tokens read so far.
    read: usize,
    /// Their text, but for what later tokens may change; cut, once a stop string was found.
    text: String,
    /// Bytes of it that were given out.
    given: usize,
}

impl<'a> Text<'a> {
    /// An empty text that ends before the first of the `stop_strings`.
    pub fn new(tokenizer: &'a Tokenizer, stop_strings: &'a [String]) -> Self {
        let (stops, detokeniser) = (Stops(stop_strings), Detokeniser::default());
        Self { tokenizer, stops, detokeniser, read: 0, text: String::new(), given: 0 }
    }

    /// Reads the tokens that are new among all; whether a stop string has ended the text.
    pub fn read(&mut self, tokens: &[u32]) -> Result<bool> {
        for &token in &tokens[self.read..] {
            self.read += 1;
            let piece = self.detokeniser.push(token, self.tokenizer)?;
            if self.add(&piece) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads what is left, and what was held back for tokens that do not come; whether a stop string has ended
    /// the text. Not to be called again once one has.
    pub fn end(&mut self, tokens: &[u32]) -> Result<bool> {
        if self.read(tokens)? {
            return Ok(true);
        }
        let rest = self.detokeniser.finish(self.tokenizer)?;
        Ok(self.add(&rest))
    }

    /// What may be given out and was not yet: all of it, or as much as is no beginning of a stop string.
    pub fn piece(&mut self, all: bool) -> String {
        let sure = if all { self.text.len() } else { self.stops.sure(&self.text) };
        let piece = self.text[self.given..sure].to_owned();
        self.given = sure;
        piece
    }

    /// The whole text.
    pub fn into_string(self) -> String {
        self.text
    }

    fn add(&mut self, piece: &str) -> bool {
        let known = self.text.len();
        self.text.push_str(piece);
        let cut = self.stops.cut(&self.text, known);
        if let Some(cut) = cut {
            self.text.truncate(cut);
        }
        cut.is_some()
    }
}
