//! What comes back: whole answers and pieces of them, in one form, put together to samples.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::failure::server_message;
use crate::{FinishReason, Sample, TokenLogprob, TopLogprob, Usage};

/// A whole answer, or one event of a stream of pieces.
#[derive(Debug, Deserialize)]
pub struct Chunk {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    index: Option<usize>,
    /// Of the text form.
    text: Option<String>,
    /// Of the chat form, whole or in pieces.
    #[serde(alias = "delta")]
    message: Option<Message>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Debug, Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

/// Log-probs as the chat form has them (`content`), which llama.cpp's server uses in both, or as the text
/// form does.
#[derive(Debug, Deserialize)]
struct Logprobs {
    content: Option<Vec<TokenLogprob>>,
    #[serde(default)]
    tokens: Vec<String>,
    #[serde(default)]
    token_logprobs: Vec<f32>,
    top_logprobs: Option<Vec<Option<BTreeMap<String, f32>>>>,
}

/// The samples of one call, as far as they have come in.
#[derive(Debug, Default)]
pub struct Drafts {
    drafts: BTreeMap<usize, Draft>,
    /// What was used, where the server tells.
    pub usage: Option<Usage>,
}

/// One sample coming in.
#[derive(Debug, Default)]
struct Draft {
    text: String,
    refusal: String,
    finish_reason: Option<String>,
    logprobs: Vec<TokenLogprob>,
}

/// What has become of a sample.
#[derive(Debug)]
pub enum Arrival {
    /// It is finished.
    Finished(Sample),
    /// The server or its model would not give it, and says so or not.
    HeldBack(String),
    /// It has not come, or not to its end.
    Missing,
}

impl Chunk {
    /// The texts in it, each with the index of its sample.
    pub fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        let texts =
            self.choices.iter().enumerate().map(|(place, choice)| (choice.index(place), choice.text()));
        texts.filter(|(_, text)| !text.is_empty())
    }
}

impl Choice {
    /// Which sample it belongs to: where the server does not say, the one in its place.
    fn index(&self, place: usize) -> usize {
        self.index.unwrap_or(place)
    }

    fn text(&self) -> &str {
        let content = self.message.as_ref().and_then(|message| message.content.as_deref());
        self.text.as_deref().or(content).unwrap_or_default()
    }
}

impl Drafts {
    /// Adds what has come in.
    pub fn add(&mut self, chunk: Chunk) {
        for (place, choice) in chunk.choices.into_iter().enumerate() {
            let draft = self.drafts.entry(choice.index(place)).or_default();
            draft.text += choice.text();
            draft.refusal +=
                choice.message.and_then(|message| message.refusal).as_deref().unwrap_or_default();
            draft.logprobs.extend(choice.logprobs.into_iter().flat_map(Logprobs::into_tokens));
            draft.finish_reason = choice.finish_reason.or(draft.finish_reason.take());
        }
        self.usage = chunk.usage.or(self.usage);
    }

    /// Whether so many samples have come in to their ends.
    pub fn complete(&self, samples: usize) -> bool {
        self.drafts.values().filter(|draft| draft.finish_reason.is_some()).count() >= samples
    }

    /// Takes out the sample at `index`; where log-probs are wanted, with so many of the likeliest tokens.
    pub fn take(&mut self, index: usize, logprobs: Option<usize>) -> Arrival {
        let Some(draft) = self.drafts.remove(&index) else { return Arrival::Missing };
        let finish_reason = match draft.finish_reason.as_deref() {
            // The last two are how SGLang and vLLM say that they gave up.
            None | Some("abort" | "error") => return Arrival::Missing,
            Some("length") => FinishReason::Length,
            Some("content_filter") => FinishReason::ContentFilter,
            Some(_) => FinishReason::Stop,
        };
        if draft.text.is_empty() && !draft.refusal.is_empty() {
            return Arrival::HeldBack(server_message(&draft.refusal, None));
        }
        if draft.text.is_empty() && finish_reason == FinishReason::ContentFilter {
            return Arrival::HeldBack("its content filter let nothing through".to_owned());
        }
        let logprobs = logprobs.map(|top| {
            let mut tokens = draft.logprobs;
            // Some servers add the chosen token where it is not among the likeliest.
            tokens.iter_mut().for_each(|token| token.top_logprobs.truncate(top));
            tokens
        });
        let (tokens, text, usage) = (Vec::new(), draft.text, None);
        Arrival::Finished(Sample { tokens, text, finish_reason, logprobs, usage })
    }
}

impl Logprobs {
    /// One entry a token, the likeliest in its place first.
    fn into_tokens(self) -> Vec<TokenLogprob> {
        if let Some(content) = self.content {
            return content;
        }
        let mut tops = self.top_logprobs.unwrap_or_default().into_iter();
        let tokens = self.tokens.into_iter().zip(self.token_logprobs);
        let with_tops = tokens.map(|(token, logprob)| {
            let top = tops.next().flatten().unwrap_or_default().into_iter();
            let mut top_logprobs: Vec<_> =
                top.map(|(token, logprob)| TopLogprob { token, logprob }).collect();
            top_logprobs.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
            TokenLogprob { token, logprob, top_logprobs }
        });
        with_tops.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_several_samples_and_their_log_probs_are_put_together() {
        let mut drafts = Drafts::default();
        let logprob = |token| format!(r#"{{"token": "{token}", "logprob": -1.5, "top_logprobs": []}}"#);
        for (index, token, finish_reason) in
            [(1, "b", "null"), (0, "a", "null"), (1, "c", "\"stop\""), (0, "", "\"abort\"")]
        {
            let logprobs = format!(r#"{{"content": [{}]}}"#, logprob(token));
            let choice = format!(
                r#"{{"index": {index}, "delta": {{"content": "{token}"}}, "finish_reason": {finish_reason},
                    "logprobs": {logprobs}}}"#
            );
            drafts.add(serde_json::from_str(&format!(r#"{{"choices": [{choice}]}}"#)).unwrap());
        }
        assert!(drafts.complete(2) && !drafts.complete(3));
        assert!(matches!(drafts.take(0, None), Arrival::Missing));
        let Arrival::Finished(sample) = drafts.take(1, Some(2)) else { panic!("{drafts:?}") };
        assert_eq!(sample.text, "bc");
        let tokens = sample.logprobs.unwrap().into_iter().map(|it| it.token);
        assert_eq!(tokens.collect::<Vec<_>>(), ["b", "c"]);
        assert!(matches!(drafts.take(1, None), Arrival::Missing));
    }
}
