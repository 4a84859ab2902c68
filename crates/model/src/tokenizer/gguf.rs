//! A tokenizer from the metadata of a GGUF file.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::Replace;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::processors::template::{Template, TemplateProcessing};
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::settings::Settings;
use super::split::Words;
use super::{Tokenizer, merges, unusable};
use crate::error::{Error, Result, nearest};
use crate::gguf::Metadata;
use crate::template::ChatTemplate;

const KIND: &str = "tokenizer.ggml.model";
const SPLIT: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// A token that steers the model, such as the end of a turn.
const CONTROL: i32 = 3;
/// A token that is found whole in any text but is text itself.
const USER_DEFINED: i32 = 4;

/// The blank with which SentencePiece marks where words begin.
const BLANK: char = '▁';

/// The named special tokens and their keys.
const NAMED: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
];

pub(super) fn build(metadata: &Metadata, path: &Path) -> Result<Tokenizer> {
    let source = Source { metadata, path };
    let tokens = source.tokens()?;
    let mut words = None;
    let mut inner = match source.text(KIND)? {
        "gpt2" => {
            words = Some(source.words()?);
            source.byte_level(tokens, words)?
        }
        "llama" => source.sentence_piece(tokens)?,
        other => return Err(source.unknown(KIND, other, &["gpt2", "llama"])),
    };
    let settings = source.settings(tokens)?;
    source.add_tokens(&mut inner, tokens, &settings)?;
    source.surround(&mut inner, &settings, words)?;
    let special_tokens = settings.special_tokens();
    let template = metadata.get_str("tokenizer.chat_template")?;
    let chat_template = template.map(|source| ChatTemplate::new(source, special_tokens));
    let mut tokenizer = Tokenizer { inner, settings, eos_ids: Vec::new(), chat_template };
    tokenizer.eos_ids = tokenizer.eos_id().into_iter().collect();
    Ok(tokenizer)
}

struct Source<'a> {
    metadata: &'a Metadata,
    path: &'a Path,
}

impl<'a> Source<'a> {
    fn text(&self, key: &str) -> Result<&'a str> {
        self.metadata.get_str(key)?.ok_or_else(|| self.metadata.missing(key, "a text"))
    }

    fn tokens(&self) -> Result<&'a [String]> {
        let tokens = self.metadata.get_array_str(TOKENS)?;
        tokens.ok_or_else(|| self.metadata.missing(TOKENS, "a list of texts"))
    }

    fn words(&self) -> Result<Words> {
        let name = self.metadata.get_str(SPLIT)?.unwrap_or("default");
        Words::from_name(name).ok_or_else(|| self.unknown(SPLIT, name, &Words::names().collect::<Vec<_>>()))
    }

    /// Byte-level BPE: every token is spelled in GPT-2's alphabet of 256 letters, one for each byte.
    fn byte_level(&self, tokens: &[String], words: Option<Words>) -> Result<tokenizers::Tokenizer> {
        let alphabet = ByteLevel::alphabet();
        let types = self.types(tokens)?;
        let mut vocab = Vocab::default();
        for (id, token) in (0..).zip(tokens) {
            let plain = !matches!(types.get(id as usize), Some(&CONTROL | &USER_DEFINED));
            let foreign = plain && !token.chars().all(|letter| alphabet.contains(&letter));
            let spelled = if foreign { self.spell(token)? } else { token.clone() };
            vocab.insert(spelled, id);
        }
        let merges = self.merges()?.ok_or_else(|| self.metadata.missing(MERGES, "a list of texts"))?;
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            // Llama 3 takes a word that is a token as it is, also where no merges lead to it.
            .ignore_merges(words == Some(Words::Llama3))
            .build()
            .map_err(unusable(self.path))?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        let pre_tokenizer = words.unwrap_or(Words::Gpt2).pre_tokenizer().map_err(unusable(self.path))?;
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        Ok(tokenizer)
    }

    /// A token in the byte alphabet.
    fn spell(&self, token: &str) -> Result<String> {
        let mut text = PreTokenizedString::from(token);
        ByteLevel::new(false, true, false).pre_tokenize(&mut text).map_err(unusable(self.path))?;
        let pieces = text.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        Ok(pieces.into_iter().map(|(piece, _, _)| piece).collect())
    }

    /// SentencePiece's BPE: blanks are written `▁`, letters outside of the vocabulary as bytes `<0xE4>`.
    fn sentence_piece(&self, tokens: &[String]) -> Result<tokenizers::Tokenizer> {
        let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
        let merges = match self.merges()? {
            Some(merges) => merges,
            None => merges::from_scores(tokens, &self.scores(tokens)?, &vocab),
        };
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .fuse_unk(true)
            .byte_fallback(true)
            .build()
            .map_err(unusable(self.path))?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        let prefix = self.metadata.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let scheme = if prefix { PrependScheme::First } else { PrependScheme::Never };
        tokenizer.with_pre_tokenizer(Some(Metaspace::new(BLANK, scheme, false)));
        let blanks = Replace::new(BLANK.to_string(), " ").map_err(unusable(self.path))?;
        let mut decoders: Vec<DecoderWrapper> =
            vec![blanks.into(), ByteFallback::new().into(), Fuse::new().into()];
        if prefix {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        tokenizer.with_decoder(Some(Sequence::new(decoders)));
        Ok(tokenizer)
    }

    fn merges(&self) -> Result<Option<Merges>> {
        let Some(lines) = self.metadata.get_array_str(MERGES)? else { return Ok(None) };
        let pair = |line: &String| match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
            _ => {
                Err(self.metadata.wrong(MERGES, "pairs of tokens with a blank between", format!("`{line}`")))
            }
        };
        lines.iter().map(pair).collect::<Result<_>>().map(Some)
    }

    fn scores(&self, tokens: &[String]) -> Result<Vec<f32>> {
        let scores = self.metadata.get_array_f32(SCORES)?;
        let scores = scores.ok_or_else(|| self.metadata.missing(SCORES, "a list of numbers"))?;
        self.same_length(SCORES, scores.len(), tokens)?;
        match tokens.iter().find(|token| token.len() > merges::LONGEST_PIECE) {
            Some(long) => {
                let limit = format!("tokens of at most {} bytes", merges::LONGEST_PIECE);
                Err(self.metadata.wrong(TOKENS, &limit, format!("one of {}", long.len())))
            }
            None => Ok(scores),
        }
    }

    /// The type of each token, or nothing where the file has none.
    fn types(&self, tokens: &[String]) -> Result<Vec<i32>> {
        let types = self.metadata.get_array_i32(TYPES)?.unwrap_or_default();
        if !types.is_empty() {
            self.same_length(TYPES, types.len(), tokens)?;
        }
        Ok(types)
    }

    /// What `tokenizer_config.json` would say.
    fn settings(&self, tokens: &[String]) -> Result<Settings> {
        let mut fields = Map::new();
        for (name, key) in NAMED {
            let Some(id) = self.metadata.get_u32(key)? else { continue };
            let token = tokens.get(id as usize).ok_or_else(|| {
                self.metadata.wrong(key, &format!("a token id below {}", tokens.len()), id.to_string())
            })?;
            fields.insert(name.to_owned(), Value::from(token.as_str()));
        }
        fields.insert("clean_up_tokenization_spaces".to_owned(), Value::from(false));
        fields.insert("tokenizer_class".to_owned(), Value::from("PreTrainedTokenizerFast"));
        Ok(Settings(fields))
    }

    /// Marks the tokens that are never cut: those for control, which are special, and those of the user.
    fn add_tokens(
        &self,
        tokenizer: &mut tokenizers::Tokenizer,
        tokens: &[String],
        settings: &Settings,
    ) -> Result<()> {
        let types = self.types(tokens)?;
        let of_type = |wanted: i32| {
            let typed = tokens.iter().zip(&types).filter(move |(_, kind)| **kind == wanted);
            typed.map(|(token, _)| token.as_str())
        };
        let named = settings.special_tokens();
        let special = of_type(CONTROL).chain(named.values().filter_map(Value::as_str));
        let special: Vec<_> = special.map(|token| AddedToken::from(token, true)).collect();
        let own: Vec<_> = of_type(USER_DEFINED)
            .filter(|token| !special.iter().any(|known| known.content == *token))
            .map(|token| AddedToken::from(token, false).normalized(false))
            .collect();
        tokenizer.add_special_tokens(special).map_err(unusable(self.path))?;
        tokenizer.add_tokens(own).map_err(unusable(self.path))?;
        Ok(())
    }

    /// Puts the beginning and the end of a sequence around texts, where the file or the kind asks for it.
    fn surround(
        &self,
        tokenizer: &mut tokenizers::Tokenizer,
        settings: &Settings,
        words: Option<Words>,
    ) -> Result<()> {
        // Older files have no flag: SentencePiece and Llama 3 begin with the token, others do not.
        let begins = matches!(words, None | Some(Words::Llama3));
        let flag = |key, usual| Ok::<_, Error>(self.metadata.get_bool(key)?.unwrap_or(usual));
        let edge = |name: &str, wanted: bool| {
            let token = settings.special_token(name).filter(|_| wanted)?;
            Some((token.to_owned(), tokenizer.token_to_id(token)?))
        };
        let begin = edge("bos_token", flag("tokenizer.ggml.add_bos_token", begins)?);
        let end = edge("eos_token", flag("tokenizer.ggml.add_eos_token", false)?);
        let pieces = |sequence: &str, kind: u32| {
            let piece =
                |edge: &Option<(String, u32)>| edge.as_ref().map(|(token, _)| format!("{token}:{kind}"));
            let text = Some(format!("${sequence}:{kind}"));
            [piece(&begin), text, piece(&end)].into_iter().flatten().collect::<Vec<String>>()
        };
        let single = pieces("A", 0);
        let pair = [single.clone(), pieces("B", 1)].concat();
        let processor = TemplateProcessing::builder()
            .single(self.template(single)?)
            .pair(self.template(pair)?)
            .special_tokens([begin, end].into_iter().flatten().collect::<Vec<_>>())
            .build()
            .map_err(|error| unusable(self.path)(error.into()))?;
        tokenizer.with_post_processor(Some(processor));
        Ok(())
    }

    fn template(&self, pieces: Vec<String>) -> Result<Template> {
        Template::try_from(pieces).map_err(|reason| unusable(self.path)(reason.into()))
    }

    fn same_length(&self, key: &str, length: usize, tokens: &[String]) -> Result<()> {
        if length == tokens.len() {
            return Ok(());
        }
        let expected = format!("as long as the list of tokens ({})", tokens.len());
        Err(self.metadata.wrong(key, &expected, format!("{length} long")))
    }

    fn unknown(&self, key: &str, name: &str, known: &[&str]) -> Error {
        Error::UnknownTokenizer {
            path: self.path.to_owned(),
            field: key.to_owned(),
            name: name.to_owned(),
            nearest: nearest(name, known.iter().copied()),
            known: known.join(", "),
        }
    }
}
