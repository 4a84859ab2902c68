//! What a GGUF file says of the tokenizer: the keys that llama.cpp's converter writes.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::Value as Json;
use tokenizers::models::bpe::Vocab;
use tokenizers::{AddedToken, ModelWrapper};

use super::form::Pairs;
use crate::config::DecoderConfig;
use crate::config_file::unsupported;
use crate::error::{Error, Result};
use crate::gguf::value::{Kind, Value};
use crate::model::Model;
use crate::template;
use crate::tokenizer::{Tokenizer, Words, fallback_byte, merges_from_scores};

/// The types of tokens in ggml.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

/// The named special tokens and their keys.
const NAMED: [(&str, &str); 7] = [
    ("bos_token", "ggml.bos_token_id"),
    ("eos_token", "ggml.eos_token_id"),
    ("unk_token", "ggml.unknown_token_id"),
    ("sep_token", "ggml.seperator_token_id"),
    ("pad_token", "ggml.padding_token_id"),
    ("cls_token", "ggml.cls_token_id"),
    ("mask_token", "ggml.mask_token_id"),
];

/// `tokenizer.…`, for a model that was opened from a folder.
pub(super) fn pairs(tokenizer: &Tokenizer, model: &Model) -> Result<Pairs> {
    let source = Source::new(tokenizer, model)?;
    let mut pairs = if source.byte_fallback() { source.sentence_piece()? } else { source.byte_level()? };
    let tokens = source.tokens();
    let types = source.types(&tokens);
    pairs.push(("ggml.tokens", Value::Texts(tokens)));
    pairs.push(("ggml.token_type", Value::Wholes(Kind::I32, types)));
    pairs.extend(source.special_tokens(model.config()));
    pairs.extend(source.edges()?);
    let mut pairs: Pairs =
        pairs.into_iter().map(|(key, value)| (format!("tokenizer.{key}"), value)).collect();
    pairs.extend(templates(tokenizer));
    Ok(pairs)
}

/// Keys without `tokenizer.` before them.
type Fields = Vec<(&'static str, Value)>;

struct Source<'a> {
    tokenizer: &'a Tokenizer,
    /// The tokenizer's model, as `tokenizer.json` has it.
    bpe: Json,
    /// By id, what the vocabulary has.
    by_id: HashMap<u32, String>,
    added: HashMap<u32, AddedToken>,
    /// Rows of the embedding: as many tokens are written.
    rows: usize,
    path: &'a Path,
}

impl<'a> Source<'a> {
    fn new(tokenizer: &'a Tokenizer, model: &'a Model) -> Result<Self> {
        let (inner, path, rows) = (tokenizer.inner(), model.path(), model.config().vocab_size);
        let ModelWrapper::BPE(bpe) = inner.get_model() else {
            let hint = "GGUF files are written of tokenizers that merge pairs (BPE)";
            return Err(unsupported(path, "tokenizer.json: model", "of another kind", hint));
        };
        let bpe = serde_json::to_value(bpe).map_err(|error| json_error(path, &error))?;
        let by_id: HashMap<u32, String> =
            inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        let added = inner.get_added_tokens_decoder().into_iter().collect();
        match by_id.keys().max() {
            Some(last) if *last as usize >= rows => Err(Error::Field {
                path: path.to_owned(),
                field: "tokenizer.json: vocab".to_owned(),
                expected: format!("ids below {rows}, the rows of the model's embedding"),
                got: last.to_string(),
            }),
            _ => Ok(Self { tokenizer, bpe, by_id, added, rows, path }),
        }
    }

    fn byte_fallback(&self) -> bool {
        self.bpe.get("byte_fallback").and_then(Json::as_bool).unwrap_or(false)
    }

    /// Rows that no token stands for are named as the converter names them.
    fn tokens(&self) -> Vec<String> {
        let token = |id| self.by_id.get(&id).cloned().unwrap_or_else(|| format!("[PAD{id}]"));
        (0..self.rows as u32).map(token).collect()
    }

    fn types(&self, tokens: &[String]) -> Vec<i64> {
        let unknown = self.tokenizer.special_token("unk_token");
        let kind = |(id, token): (u32, &String)| match self.added.get(&id) {
            _ if !self.by_id.contains_key(&id) => UNUSED,
            _ if self.byte_fallback() && Some(token.as_str()) == unknown => UNKNOWN,
            Some(added) if added.special || looks_special(token) => CONTROL,
            Some(_) => USER_DEFINED,
            None if self.byte_fallback() && fallback_byte(token).is_some() => BYTE,
            None => NORMAL,
        };
        (0..).zip(tokens).map(kind).collect()
    }

    /// The merges, best first.
    fn merges(&self) -> Vec<(&str, &str)> {
        let merges = self.bpe.get("merges").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let sides = merges.iter().map(|merge| Some((merge.get(0)?.as_str()?, merge.get(1)?.as_str()?)));
        sides.flatten().collect()
    }

    fn byte_level(&self) -> Result<Fields> {
        let inner = self.tokenizer.inner();
        let how = inner.get_pre_tokenizer().map(serde_json::to_value).transpose();
        let how = how.map_err(|error| json_error(self.path, &error))?.unwrap_or_default();
        let Some(name) = Words::name_of(&how) else {
            let hint = "llama.cpp must know by name how a text is cut into words; known are the ways of GPT-2, SmolLM, \
                        Qwen2, Llama 3 and Tekken";
            return Err(unsupported(self.path, "tokenizer.json: pre_tokenizer", shortened(&how), hint));
        };
        let line = |(left, right): (&str, &str)| format!("{left} {right}");
        Ok(vec![
            ("ggml.model", Value::text("gpt2")),
            ("ggml.pre", Value::text(name)),
            ("ggml.merges", Value::Texts(self.merges().into_iter().map(line).collect())),
        ])
    }

    /// llama.cpp merges a pair if the whole is a token, the best score first; so the merges must be all such pairs, in
    /// an order that scores can give. One difference is left: before a text that begins with a blank, llama.cpp puts
    /// another, as SentencePiece does, where a tokenizer with `Metaspace` puts none.
    fn sentence_piece(&self) -> Result<Fields> {
        let merges = self.merges();
        let mut ranks: HashMap<String, usize> = HashMap::new();
        for (rank, (left, right)) in merges.iter().enumerate() {
            ranks.entry(format!("{left}{right}")).or_insert(rank);
        }
        let score = |id: u32| {
            let rank = self.by_id.get(&id).and_then(|token| ranks.get(token));
            rank.map_or(0.0, |rank| -(*rank as f32))
        };
        let scores: Vec<f32> = (0..self.rows as u32).map(score).collect();
        let tokens = self.tokens();
        let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
        let implied = merges_from_scores(&tokens, &scores, &vocab);
        // Tokens that are found whole take no part.
        let added: HashSet<&str> = self.added.values().map(|token| token.content.as_str()).collect();
        let counts = |(left, right): &(&str, &str)| {
            ![*left, *right, &format!("{left}{right}")].iter().any(|token| added.contains(token))
        };
        let implied: HashSet<_> =
            implied.iter().map(|(left, right)| (left.as_str(), right.as_str())).filter(counts).collect();
        let stored: HashSet<_> = merges.iter().copied().filter(counts).collect();
        let by_token = merges.iter().map(|(left, right)| ranks.get(&format!("{left}{right}"))).is_sorted();
        if !(by_token && implied == stored) {
            let hint = "llama.cpp would merge other pairs than the tokenizer does: convert the model with llama.cpp's own \
                        converter, which reads tokenizer.model";
            return Err(unsupported(
                self.path,
                "tokenizer.json: merges",
                "not a SentencePiece model's",
                hint,
            ));
        }
        Ok(vec![
            ("ggml.model", Value::text("llama")),
            ("ggml.pre", Value::text("default")),
            ("ggml.scores", Value::Brokens(Kind::F32, scores.into_iter().map(f64::from).collect())),
            ("ggml.add_space_prefix", Value::Bool(self.prefixes()?)),
        ])
    }

    /// Whether a text gets a blank before its first word: seen in what becomes of one without.
    fn prefixes(&self) -> Result<bool> {
        let ids = self.tokenizer.encode("a", false)?;
        let first = ids.first().and_then(|id| self.by_id.get(id));
        Ok(first.is_some_and(|token| token.starts_with('▁')))
    }

    /// The tokenizer's own names go before the model's.
    fn special_tokens(&self, decoder: &DecoderConfig) -> Fields {
        let model = |name| match name {
            "bos_token" => decoder.bos_token_id,
            "eos_token" => decoder.eos_token_ids.first().copied(),
            "pad_token" => decoder.pad_token_id,
            _ => None,
        };
        let id = |name| self.tokenizer.special_token(name).and_then(|token| self.tokenizer.id(token));
        let field = |(name, key)| Some((key, Value::u32(id(name).or_else(|| model(name))?)));
        NAMED.into_iter().filter_map(field).collect()
    }

    /// What is put around a text: seen in what becomes of an empty one.
    fn edges(&self) -> Result<Fields> {
        let ids = self.tokenizer.encode("", true)?;
        let (begin, end) = (self.tokenizer.bos_id(), self.tokenizer.eos_id());
        let begins = begin.is_some() && ids.first().copied() == begin;
        let ends = end.is_some() && ids.len() > usize::from(begins) && ids.last().copied() == end;
        if ids.len() != usize::from(begins) + usize::from(ends) {
            let hint = "llama.cpp puts the tokens of the beginning and the end of a sequence around a text, no others";
            return Err(unsupported(self.path, "tokenizer.json: post_processor", format!("{ids:?}"), hint));
        }
        Ok(vec![("ggml.add_bos_token", Value::Bool(begins)), ("ggml.add_eos_token", Value::Bool(ends))])
    }
}

/// The converter's rule: some models have not marked as special what is.
fn looks_special(token: &str) -> bool {
    let within = |begin, end| token.starts_with(begin) && token.ends_with(end);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&token)
        || within("<|", "|>")
        || within("<｜", "｜>")
        || within("<unused", ">")
}

/// The key of the usual template.
pub(super) const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// The usual template under its own key, others by name.
pub(super) fn templates(tokenizer: &Tokenizer) -> Pairs {
    let mut pairs = Pairs::new();
    let mut names = Vec::new();
    for (name, source) in tokenizer.chat_template().into_iter().flat_map(|template| template.sources()) {
        if name == template::DEFAULT {
            pairs.push((CHAT_TEMPLATE.to_owned(), Value::text(source)));
        } else {
            pairs.push((format!("tokenizer.chat_template.{name}"), Value::text(source)));
            names.push(name.to_owned());
        }
    }
    if !names.is_empty() {
        pairs.push(("tokenizer.chat_templates".to_owned(), Value::Texts(names)));
    }
    pairs
}

/// The beginning of what may be a long expression.
fn shortened(value: &Json) -> String {
    value.to_string().chars().take(400).collect()
}

fn json_error(path: &Path, error: &serde_json::Error) -> Error {
    Error::Json { path: path.to_owned(), reason: error.to_string() }
}
