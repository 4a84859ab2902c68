//! What a model or an adapter is

use collimate_stages::model::info::{AdapterInfo, Counts, Info, ModelInfo, Positions, Sizes, Stored};
use collimate_stages::model::info::{TemplateInfo, TokenizerInfo};

use super::{bytes, count, known};
use crate::figures::figure;

/// One fact, if there is something to say.
type Fact = (&'static str, Option<String>);

/// A model or an adapter on one screen.
pub fn model_info(info: &Info) -> String {
    match info {
        Info::Model(model) => self::model(model),
        Info::Adapter(adapter) => self::adapter(adapter),
    }
}

fn model(info: &ModelInfo) -> String {
    let ModelInfo { format, family, heads, parameters, stored, sizes, positions, tokenizer, .. } = info;
    let head = [
        ("family", Some(family.clone())),
        ("file format", Some((*format).to_owned())),
        ("heads", Some(heads.join(" and "))),
    ];
    let text = match tokenizer {
        Ok(tokenizer) => self::tokenizer(tokenizer),
        Err(reason) => vec![("tokenizer", Some(format!("none: {reason}")))],
    };
    known(
        head.into_iter()
            .chain(counts(*parameters))
            .chain(types(stored))
            .chain(shape(sizes))
            .chain(reach(positions))
            .chain(text),
    )
}

fn counts(counts: Counts) -> Vec<Fact> {
    let Counts { total, embedding, head, attention, mlp, norms } = counts;
    let some = |number: u64| (number > 0).then(|| count(number));
    vec![
        ("parameters", Some(count(total))),
        ("  embedding", Some(count(embedding))),
        ("  head", some(head)),
        ("  attention", Some(count(attention))),
        ("  MLP", Some(count(mlp))),
        ("  norms", some(norms)),
    ]
}

fn types(stored: &[Stored]) -> Vec<Fact> {
    let fact = |stored: &Stored| {
        let Stored { dtype, tensors, bytes: size, .. } = stored;
        ("stored as", Some(format!("{dtype}: {} tensors, {}", count(*tensors), bytes(*size))))
    };
    stored.iter().map(fact).collect()
}

fn shape(sizes: &Sizes) -> Vec<Fact> {
    let number = |number: usize| Some(count(number as u64));
    let heads = format!(
        "{} of {}, keys and values {}",
        sizes.num_attention_heads, sizes.head_dim, sizes.num_key_value_heads
    );
    let tied = if sizes.tie_word_embeddings { ", tied to the head" } else { "" };
    vec![
        ("layers", number(sizes.num_hidden_layers)),
        ("width", number(sizes.hidden_size)),
        ("width of the MLP", number(sizes.intermediate_size)),
        ("attention heads", Some(heads)),
        ("rows of the embedding", Some(format!("{}{tied}", count(sizes.vocab_size as u64)))),
    ]
}

fn reach(positions: &Positions) -> Vec<Fact> {
    let Positions { rope_scaling, layers_with_window, layers_without_rotary, .. } = *positions;
    let window = positions
        .sliding_window
        .map(|window| format!("{} in {layers_with_window} layers", count(window as u64)));
    let scaling = if rope_scaling == "none" { String::new() } else { format!(", stretched: {rope_scaling}") };
    vec![
        ("context", Some(format!("{} tokens", count(positions.max_position_embeddings as u64)))),
        ("rotary base", Some(figure(positions.rope_theta) + &scaling)),
        ("sliding window", window),
        ("layers without rotary", (layers_without_rotary > 0).then(|| layers_without_rotary.to_string())),
    ]
}

fn tokenizer(info: &TokenizerInfo) -> Vec<Fact> {
    let special = info
        .special_tokens
        .iter()
        .map(|(name, token)| format!("{} {token}", name.trim_end_matches("_token")));
    let special: Vec<String> = special.collect();
    vec![
        ("tokenizer", Some(format!("{}, {} tokens", info.kind, count(info.vocab_size as u64)))),
        ("special tokens", (!special.is_empty()).then(|| special.join(", "))),
        ("a text ends at", Some(info.ends.join(", ")).filter(|ends| !ends.is_empty())),
        ("chat template", Some(info.chat_template.as_ref().map_or("none".to_owned(), template))),
    ]
}

fn template(info: &TemplateInfo) -> String {
    let system = match info.system {
        Some(true) => "system messages",
        Some(false) => "no system messages",
        None => "fails on a single message",
    };
    let generation = if info.generation { "marks what is generated" } else { "no generation marks" };
    let tools = if info.tools { ", tools" } else { "" };
    let names = if info.names.len() > 1 { format!("{}: ", info.names.join(", ")) } else { String::new() };
    format!("{names}{system}, {generation}{tools}")
}

fn adapter(info: &AdapterInfo) -> String {
    let config = &info.config;
    let scale = if config.use_rslora { "alpha / √rank" } else { "alpha / rank" };
    let targets = config.target_modules.as_ref().and_then(|targets| serde_json::to_value(targets).ok());
    let list = |value: serde_json::Value| match value {
        serde_json::Value::Array(names) => {
            names.iter().map(|name| name.as_str().unwrap_or_default()).collect::<Vec<_>>().join(", ")
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    let facts = [
        ("kind", Some(format!("{} adapter", config.peft_type))),
        ("made for", config.base_model_name_or_path.clone()),
        ("task", config.task_type.clone()),
        ("rank", Some(count(config.r as u64))),
        ("alpha", Some(format!("{} (scale: {scale})", figure(config.lora_alpha)))),
        ("dropout", Some(figure(config.lora_dropout))),
        ("targets", targets.map(list)),
        ("trained whole", config.modules_to_save.as_ref().map(|names| names.join(", "))),
        ("modules adapted", Some(count(info.modules))),
        ("parameters", Some(count(info.parameters))),
    ];
    known(facts.into_iter().chain(types(&info.stored)))
}
