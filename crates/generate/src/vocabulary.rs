//! A model's vocabulary as `llguidance` asks for it: the bytes of every token, and how a text is tokenised.

use std::sync::Arc;

use collimate_model::Tokenizer;
use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use crate::{Error, Result};

/// The bytes of every token.
///
/// What the grammar leaves no choice in is written in the tokens that the tokenizer itself would take, as the model
/// has learnt it. Where a tokenizer writes the beginning of a text in a way of its own (SentencePiece's space), that
/// cannot be asked of it for a text within a text; then the model chooses among all tokens that fit.
pub(crate) struct Vocabulary {
    trie: TokTrie,
    tokenizer: Tokenizer,
    canonical: bool,
}

impl Vocabulary {
    /// The vocabulary of the tokenizer, in which `end_ids` stand for no text.
    ///
    /// # Errors
    /// [`Error::NoTokenBytes`].
    pub fn new(tokenizer: &Tokenizer, end_ids: &[u32]) -> Result<Self> {
        let count = tokenizer.vocab_size() as u32;
        let ends: Vec<u32> = end_ids.iter().copied().filter(|&id| id < count).collect();
        let word = |id: u32| {
            let mut bytes = tokenizer.token_bytes(id).unwrap_or_default();
            // Such tokens are no text, whatever their name.
            if !bytes.is_empty() && (tokenizer.is_skipped(id) || ends.contains(&id)) {
                bytes.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
            bytes
        };
        let words: Vec<Vec<u8>> = (0..count).map(word).collect();
        if words.iter().all(Vec::is_empty) {
            return Err(Error::NoTokenBytes);
        }
        let mut trie = TokTrie::from(&TokRxInfo::new(count, INVALID_TOKEN), &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let plain = "a";
        let canonical = trie.decode_raw(&tokenizer.encode(plain, false)?) == plain.as_bytes();
        Ok(Self { trie, tokenizer: tokenizer.clone(), canonical })
    }

    /// As what a grammar is compiled for.
    pub fn into_environment(self) -> TokEnv {
        Arc::new(self)
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            // Normalised, or a special token's name: the tokens would be another text.
            let tokens = self.tokenizer.encode(text, false).ok();
            tokens
                .filter(|tokens| self.trie.decode_raw(tokens) == text.as_bytes())
                .unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
