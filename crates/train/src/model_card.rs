//! `README.md` of an adapter or a model: the model card, as the Hugging Face Hub reads it.

use std::fmt::Write;
use std::path::Path;

use collimate_run::hub_cache::public_name;
use serde_json::Value;

/// What a model card tells.
#[derive(Debug, Clone)]
pub struct ModelCard {
    /// Whether it tells of a whole model; else of an adapter.
    pub whole: bool,
    /// What it does, by the Hub's names: `text-generation` or `text-classification`.
    pub pipeline: &'static str,
    /// How it was trained, in words.
    pub title: &'static str,
    /// How it was trained: a tag such as `sft`.
    pub method: &'static str,
    /// The model that it started from.
    pub base_model: String,
    /// What it was trained on.
    pub dataset: String,
    /// The settings: an object.
    pub settings: Value,
    /// What came of it: an object.
    pub summary: Value,
}

impl ModelCard {
    /// The card as Markdown, with the header in YAML.
    pub fn render(&self) -> String {
        // JSON strings are YAML strings, whatever the path holds.
        let base_model = Value::String(self.base_model.clone());
        let (library, tag, kind, article) = match self.whole {
            true => ("transformers", "", "Model", "A model made from"),
            false => ("peft", "- lora\n", "LoRA adapter", "A LoRA adapter for"),
        };
        let Self { pipeline, title, method, dataset, .. } = self;
        let mut card = format!(
            "---\nbase_model: {base_model}\nlibrary_name: {library}\npipeline_tag: {pipeline}\ntags:\n{tag}- \
             {method}\n- collimate\n---\n\n# {kind}, {title}\n\n{article} `{}`, trained on `{dataset}` with collimate \
             {}.\n",
            self.base_model,
            env!("CARGO_PKG_VERSION"),
        );
        for (heading, facts) in [("Result", &self.summary), ("Settings", &self.settings)] {
            let _ = write!(card, "\n## {heading}\n\n| | |\n| --- | --- |\n");
            for (name, value) in facts.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null())
            {
                let _ = writeln!(card, "| {name} | {} |", cell(value));
            }
        }
        card
    }
}

/// A value within a table row; a model in the Hub's cache is called by its id.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::String(text) => public_name(Path::new(text)),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_card_names_what_is_known_and_nothing_else() {
        let mut card = ModelCard {
            whole: false,
            pipeline: "text-classification",
            title: "a method",
            method: "sft",
            base_model: "models/a \"b\"".to_owned(),
            dataset: "rows.jsonl".to_owned(),
            settings: json!({"targets": ["q_proj", "v_proj"], "limit": null, "pattern": "a|b"}),
            summary: json!({"steps": 3}),
        };
        let head = "---\nbase_model: \"models/a \\\"b\\\"\"\nlibrary_name: ";
        let rendered = card.render();
        assert!(rendered.starts_with(&format!("{head}peft\n")), "{rendered}");
        assert!(rendered.contains("\npipeline_tag: text-classification\n"), "{rendered}");
        assert!(rendered.contains("\n- lora\n- sft\n") && rendered.contains("\n# LoRA adapter, a method\n"));
        assert!(rendered.contains("\n## Result\n\n| | |\n| --- | --- |\n| steps | 3 |\n"), "{rendered}");
        assert!(rendered.ends_with("| targets | q_proj, v_proj |\n| pattern | a\\|b |\n"), "{rendered}");
        card.whole = true;
        let rendered = card.render();
        assert!(rendered.starts_with(&format!("{head}transformers\n")), "{rendered}");
        assert!(!rendered.contains("lora") && rendered.contains("\n# Model, a method\n"), "{rendered}");
    }
}
