//! Text to token ids and back, as transformers' fast tokenizers do it.

mod folder;
mod gguf;
mod merges;
mod save;
mod settings;
mod spelling;
mod split;

use std::path::{Path, PathBuf};

pub(crate) use self::merges::from_scores as merges_from_scores;
use self::settings::Settings;
pub(crate) use self::spelling::fallback_byte;
pub(crate) use self::split::Words;
use crate::error::{Error, Result};
use crate::gguf::Metadata;
use crate::model::Model;
use crate::template::ChatTemplate;

/// A model's tokenizer, with its special tokens and chat template; may be shared between threads.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    settings: Settings,
    eos_ids: Vec<u32>,
    chat_template: Option<ChatTemplate>,
}

impl Tokenizer {
    /// Reads a Hugging Face folder: `tokenizer.json` and what stands beside it.
    ///
    /// `tokenizer_config.json` and `special_tokens_map.json` name the special tokens; the chat template comes
    /// from `chat_template.jinja` or the configuration; the ids that end a text from `generation_config.json`,
    /// else `config.json`, else the tokenizer's end-of-sequence token. Errors name the file.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        folder::read(folder)
    }

    /// Builds the tokenizer that the metadata of the GGUF file at `path` describes.
    ///
    /// Errors name the metadata key: a kind of tokenizer or of splitting text that is not known, lists of
    /// different lengths, merges that do not fit the vocabulary.
    pub fn from_gguf(metadata: &Metadata, path: &Path) -> Result<Self> {
        gguf::build(metadata, path)
    }

    /// The token ids of `text`.
    ///
    /// `add_special_tokens` adds what the tokenizer puts around a text, such as a beginning-of-sequence token.
    /// Special tokens written out in the text are recognised either way.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, add_special_tokens).map_err(failed("encode"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token ids of each text, computed in parallel.
    pub fn encode_batch(&self, texts: &[&str], add_special_tokens: bool) -> Result<Vec<Vec<u32>>> {
        let encodings =
            self.inner.encode_batch_fast(texts.to_vec(), add_special_tokens).map_err(failed("encode"))?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// The part of `text` that its first `count` tokens cover, to a whole character; none if there are no
    /// more.
    pub fn first_tokens<'a>(&self, text: &'a str, count: usize) -> Result<Option<&'a str>> {
        // A token covers one byte at least.
        if text.len() <= count {
            return Ok(None);
        }
        let encoding = self.inner.encode(text, false).map_err(failed("encode"))?;
        let Some((next, _)) = encoding.get_offsets().get(count) else { return Ok(None) };
        let last = count.checked_sub(1).and_then(|last| encoding.get_offsets().get(last));
        // Where two tokens share a character, both cover all of it.
        let end = last.map_or(0, |(_, end)| *end.min(next));
        // Cut, in any case: none would mean that there are no more tokens.
        Ok(Some(&text[..text.floor_char_boundary(end)]))
    }

    /// The text of `ids`; unknown ids are left out, broken UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        self.inner.decode(ids, skip_special_tokens).map_err(failed("decode"))
    }

    /// The ids that end a generated text; often more than the tokenizer's own [`Tokenizer::eos_id`].
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// The end-of-sequence token, which closes a training example.
    pub fn eos_id(&self) -> Option<u32> {
        self.special_id("eos_token")
    }

    /// The beginning-of-sequence token.
    pub fn bos_id(&self) -> Option<u32> {
        self.special_id("bos_token")
    }

    /// The padding token.
    pub fn pad_id(&self) -> Option<u32> {
        self.special_id("pad_token")
    }

    /// The text of a special token by its Hugging Face name, such as `eos_token`.
    pub fn special_token(&self, name: &str) -> Option<&str> {
        self.settings.special_token(name)
    }

    /// The token with this id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// What the token adds to a text, as bytes: perhaps a part of a character, for a special token its name.
    ///
    /// `None` where no token has this id, or where decoding does not write token after token (as with WordPiece).
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        spelling::bytes(&self.inner, id)
    }

    /// Whether decoding leaves the token out when special tokens are to be skipped: a special or unknown one.
    pub fn is_skipped(&self, id: u32) -> bool {
        self.token(id).is_none_or(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// Whether the token is one of SentencePiece's bytes, such as `<0x0A>`. A run of them becomes text as a whole.
    pub fn is_byte(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| spelling::fallback_byte(&token).is_some())
    }

    /// The id of a token, spelled as in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The kind of its model: `BPE`, `Unigram`, `WordPiece` or `WordLevel`.
    pub fn kind(&self) -> &'static str {
        match self.inner.get_model() {
            tokenizers::ModelWrapper::BPE(_) => "BPE",
            tokenizers::ModelWrapper::Unigram(_) => "Unigram",
            tokenizers::ModelWrapper::WordPiece(_) => "WordPiece",
            tokenizers::ModelWrapper::WordLevel(_) => "WordLevel",
        }
    }

    /// The number of tokens, added ones included; a model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The chat template, if the model came with one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// The tokenizer of the `tokenizers` library, for decoding piece by piece or constraining output.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and the chat templates
    /// into the folder, so that transformers' `AutoTokenizer` opens it.
    pub fn save(&self, folder: &Path) -> Result<()> {
        save::write(self, folder)
    }

    fn special_id(&self, name: &str) -> Option<u32> {
        self.id(self.special_token(name)?)
    }
}

impl Model {
    /// The model's tokenizer, from its folder or its GGUF metadata; read anew at each call.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        match self.gguf_metadata() {
            Some(metadata) => Tokenizer::from_gguf(metadata, self.path()),
            None => Tokenizer::from_folder(self.path()),
        }
    }
}

/// The error of a failed `action` on some text.
fn failed(action: &'static str) -> impl Fn(tokenizers::Error) -> Error {
    move |error| Error::Tokenize { action, reason: error.to_string() }
}

/// The error of a tokenizer file whose contents are wrong.
fn unusable(path: impl Into<PathBuf>) -> impl Fn(tokenizers::Error) -> Error {
    let path = path.into();
    move |error| Error::Tokenizer { path: path.clone(), reason: error.to_string() }
}
