//! What is sent: requests and sampling options in the words of OpenAI's interface, or of vLLM's.

use collimate_run::random::stream;
use serde_json::{Map, Value, json};

use super::form;
use super::options::{Dialect, ServerOptions};
use crate::{Prompt, Request, SamplingOptions};

/// Bytes of text that make a token, before the server has counted them; few, so as not to promise too much.
const BYTES_PER_TOKEN: usize = 3;

/// The most samples of one call that OpenAI gives.
const MOST_SAMPLES: usize = 128;

/// What is added to the base URL for a prompt.
pub fn path(prompt: &Prompt) -> &'static str {
    match prompt {
        Prompt::Chat(_) => "/chat/completions",
        Prompt::Text(_) | Prompt::Tokens(_) => "/completions",
    }
}

/// The samples of a request, call by call. Greedy ones go alone, because vLLM gives no more of them at once.
pub fn calls(request: &Request, sampling: &SamplingOptions) -> Vec<Vec<u64>> {
    let together = if sampling.do_sample { MOST_SAMPLES } else { 1 };
    request.samples.chunks(together).map(<[u64]>::to_vec).collect()
}

/// The most tokens that a call for `samples` samples may use, as far as this can be known beforehand.
pub fn most_tokens(request: &Request, samples: usize, sampling: &SamplingOptions) -> u64 {
    let estimate = |bytes: usize| bytes.div_ceil(BYTES_PER_TOKEN);
    let prompt = match &request.prompt {
        Prompt::Tokens(tokens) => tokens.len(),
        Prompt::Text(text) => estimate(text.len()),
        Prompt::Chat(messages) => messages.iter().map(|message| estimate(message.to_string().len())).sum(),
    };
    prompt.saturating_add(samples.saturating_mul(sampling.max_new_tokens)) as u64
}

/// The body of the call for the samples `numbers` of a request.
pub fn body(server: &ServerOptions, request: &Request, numbers: &[u64], sampling: &SamplingOptions) -> Value {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| {
        body.insert(name.to_owned(), value);
    };
    set("model", json!(request.adapter.as_ref().unwrap_or(&server.model)));
    let chat = match &request.prompt {
        Prompt::Chat(messages) => {
            set("messages", json!(messages));
            true
        }
        Prompt::Text(text) => {
            set("prompt", json!(text));
            false
        }
        Prompt::Tokens(tokens) => {
            set("prompt", json!(tokens));
            false
        }
    };
    // OpenAI's newer models know only the longer name, and only OpenAI knows it everywhere.
    let newer = chat && server.dialect == Dialect::OpenAi;
    set(if newer { "max_completion_tokens" } else { "max_tokens" }, json!(sampling.max_new_tokens));
    set("n", json!(numbers.len()));
    set("seed", json!(seed(request.key, numbers, sampling.seed)));
    if request.stream {
        set("stream", json!(true));
        set("stream_options", json!({"include_usage": true}));
    }
    match (chat, sampling.logprobs) {
        (_, None) => {}
        (true, Some(top)) => {
            set("logprobs", json!(true));
            set("top_logprobs", json!(top));
        }
        (false, Some(top)) => set("logprobs", json!(top)),
    }
    choosing(server.dialect, sampling, &mut set);
    ending(sampling, &mut set);
    if let Some(constraint) = &sampling.constraint {
        for (name, value) in form::fields(server.dialect, constraint) {
            set(name, value);
        }
    }
    Value::Object(body)
}

/// Between 0 and 2^31 - 1, which every server takes; as the key and the numbers differ, so do the seeds.
fn seed(key: u64, numbers: &[u64], seed: u64) -> u64 {
    stream(seed, &[key, numbers.first().copied().unwrap_or_default()]).next_u64() >> 33
}

/// How tokens are chosen.
fn choosing(dialect: Dialect, sampling: &SamplingOptions, set: &mut impl FnMut(&str, Value)) {
    let full = dialect == Dialect::Vllm;
    set("temperature", json!(if sampling.do_sample { sampling.temperature } else { 0.0 }));
    if sampling.do_sample {
        set("top_p", json!(sampling.top_p));
        if full {
            // All servers agree on -1 for "all", but not on 0.
            set("top_k", if sampling.top_k == 0 { json!(-1) } else { json!(sampling.top_k) });
        }
        if full || sampling.min_p != 0.0 {
            set("min_p", json!(sampling.min_p));
        }
    }
    if full || sampling.repetition_penalty != 1.0 {
        // The second is its name in llama.cpp's server.
        for name in ["repetition_penalty", "repeat_penalty"] {
            set(name, json!(sampling.repetition_penalty));
        }
    }
    let penalties =
        [("frequency_penalty", sampling.frequency_penalty), ("presence_penalty", sampling.presence_penalty)];
    for (name, penalty) in penalties.into_iter().filter(|(_, penalty)| *penalty != 0.0) {
        set(name, json!(penalty));
    }
}

/// What ends an answer.
fn ending(sampling: &SamplingOptions, set: &mut impl FnMut(&str, Value)) {
    if !sampling.stop_strings.is_empty() {
        set("stop", json!(sampling.stop_strings));
    }
    if sampling.min_new_tokens > 0 {
        set("min_tokens", json!(sampling.min_new_tokens));
    }
    match sampling.eos_token_id.as_deref() {
        None => {}
        Some([]) => set("ignore_eos", json!(true)),
        // A server adds the model's own.
        Some(ids) => set("stop_token_ids", json!(ids)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Constraint;

    fn request() -> Request {
        let messages = vec![json!({"role": "user", "content": "Hello"})];
        Request { samples: vec![4, 5], ..Request::new(Prompt::Chat(messages), 7) }
    }

    fn drawn() -> SamplingOptions {
        SamplingOptions { do_sample: true, temperature: 0.5, ..SamplingOptions::default() }
    }

    #[test]
    fn openai_is_told_nothing_that_it_does_not_know() {
        let server = ServerOptions::new("https://api.openai.com/v1", "gpt-4o-mini");
        let expected = json!({
            "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}],
            "max_completion_tokens": 200, "n": 2, "seed": seed(7, &[4, 5], 42), "temperature": 0.5,
            "top_p": 1.0,
        });
        assert_eq!(body(&server, &request(), &[4, 5], &drawn()), expected);
    }

    #[test]
    fn other_servers_are_told_everything_that_they_might_choose_themselves() {
        let server = ServerOptions::new("http://localhost:8000/v1", "base");
        let sampling = SamplingOptions {
            top_k: 0,
            min_p: 0.25,
            repetition_penalty: 1.5,
            presence_penalty: 0.5,
            min_new_tokens: 3,
            stop_strings: vec!["\n".to_owned()],
            eos_token_id: Some(vec![2]),
            logprobs: Some(3),
            constraint: Some(Constraint::Choice(vec!["yes".to_owned(), "no".to_owned()])),
            ..drawn()
        };
        let request = Request {
            adapter: Some("mine".to_owned()),
            stream: true,
            prompt: Prompt::Tokens(vec![1, 2]),
            ..request()
        };
        let expected = json!({
            "model": "mine", "prompt": [1, 2], "max_tokens": 200, "n": 1, "seed": seed(7, &[5], 42),
            "stream": true,
            "stream_options": {"include_usage": true}, "logprobs": 3, "temperature": 0.5, "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.25, "repetition_penalty": 1.5, "repeat_penalty": 1.5, "presence_penalty": 0.5,
            "stop": ["\n"], "min_tokens": 3, "stop_token_ids": [2],
            "structured_outputs": {"choice": ["yes", "no"]}, "regex": "(yes|no)",
        });
        assert_eq!(body(&server, &request, &[5], &sampling), expected);
    }

    #[test]
    fn a_schema_and_log_probs_go_by_their_names_in_chats() {
        let server = ServerOptions::new("http://localhost:8000/v1", "base");
        let schema = json!({"type": "object"});
        let constraint = Some(Constraint::Json(schema.clone()));
        let sampling = SamplingOptions { logprobs: Some(2), constraint, ..SamplingOptions::default() };
        let body = body(&server, &request(), &[4], &sampling);
        assert_eq!(body["response_format"]["json_schema"]["schema"], schema);
        assert_eq!((&body["logprobs"], &body["top_logprobs"]), (&json!(true), &json!(2)));
        assert_eq!((&body["temperature"], body.get("top_p")), (&json!(0.0), None));
    }

    #[test]
    fn seeds_differ_and_fit_31_bits() {
        let seeds = [seed(7, &[0], 42), seed(7, &[1], 42), seed(8, &[0], 42), seed(7, &[0], 43)];
        let different: std::collections::BTreeSet<_> = seeds.iter().collect();
        assert_eq!(different.len(), seeds.len());
        assert!(seeds.iter().all(|&seed| seed < 1 << 31), "{seeds:?}");
    }

    #[test]
    fn greedy_samples_are_asked_for_one_by_one_and_others_as_many_as_may_be() {
        let many = Request { samples: (0..300).collect(), ..request() };
        let lengths: Vec<usize> = calls(&many, &drawn()).iter().map(Vec::len).collect();
        assert_eq!(lengths, [128, 128, 44]);
        assert_eq!(calls(&request(), &drawn()), [vec![4, 5]]);
        assert_eq!(calls(&request(), &SamplingOptions::default()), [vec![4], vec![5]]);
        assert_eq!(most_tokens(&Request::new(Prompt::Tokens(vec![1; 9]), 0), 2, &drawn()), 409);
    }
}
