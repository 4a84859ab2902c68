//! Chat templates render as transformers renders them: templates in the style of the well-known ones, with
//! texts recorded by `fixtures/tokenizer/record_templates.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collimate_model::{ChatTemplate, Error, TemplateOptions};
use serde_json::{Map, Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer")
}

fn read_json(name: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join(name)).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn options(choices: &Value) -> TemplateOptions {
    let mut variables = object(choices);
    let mut list = |name: &str| variables.remove(name).map(|list| list.as_array().expect("a list").clone());
    TemplateOptions {
        tools: list("tools"),
        documents: list("documents"),
        add_generation_prompt: variables.remove("add_generation_prompt") == Some(Value::Bool(true)),
        variables,
        name: None,
    }
}

#[test]
fn templates_render_as_in_transformers() {
    let recorded = read_json("templates.json");
    let special_tokens = object(&recorded["special_tokens"]);
    let mut wrong = Vec::new();
    for case in recorded["cases"].as_array().expect("cases") {
        let name = case["template"].as_str().expect("a name");
        let path = fixtures().join(format!("templates/{name}.jinja"));
        let source = std::fs::read_to_string(path).expect("the template is there");
        let template = ChatTemplate::new(source, special_tokens.clone());
        let conversation = case["conversation"].as_str().expect("a name");
        let messages = recorded["conversations"][conversation].as_array().expect("messages");
        let rendered = template.render(messages, &options(&case["options"]));
        let same = match (&rendered, case["rendered"].as_str(), case["refused"].as_str()) {
            (Ok(text), Some(expected), _) => text == expected,
            (Err(Error::TemplateRaised { message, .. }), _, Some(expected)) => message == expected,
            _ => false,
        };
        if !same {
            wrong.push(format!("{name}, {conversation}, {}:\n{case}\n{rendered:?}", case["options"]));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn the_template_for_tools_is_taken_where_there_are_tools() {
    let sources =
        [("default", "plain"), ("tool_use", "{{ tools | length }}"), ("rag", "{{ documents[0].title }}")];
    let sources: BTreeMap<String, String> =
        sources.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect();
    let template = ChatTemplate::named(sources, Map::new());
    let render = |options: TemplateOptions| template.render(&[], &options);
    assert_eq!(render(TemplateOptions::default()).unwrap(), "plain");
    let tools = TemplateOptions { tools: Some(vec![json!({})]), ..Default::default() };
    assert_eq!(render(tools).unwrap(), "1");
    let documents = Some(vec![json!({"title": "T", "text": ""})]);
    let named = TemplateOptions { documents, name: Some("rag".to_owned()), ..Default::default() };
    assert_eq!(render(named).unwrap(), "T");
    let unknown = TemplateOptions { name: Some("tool_user".to_owned()), ..Default::default() };
    let error = render(unknown).unwrap_err();
    assert_eq!(error.to_string(), "the model has no chat template named `tool_user`");
    let help = miette::Diagnostic::help(&error).expect("a hint").to_string();
    assert_eq!(help, "its templates: default, rag, tool_use; the nearest is `tool_use`");
}

#[test]
fn variables_go_before_special_tokens() {
    let template = ChatTemplate::new("{{ bos_token }}{{ eos_token }}", object(&json!({"bos_token": "<s>"})));
    let options = TemplateOptions { variables: object(&json!({"bos_token": "<b>"})), ..Default::default() };
    assert_eq!(template.render(&[], &options).unwrap(), "<b>");
}

#[test]
fn the_time_is_formatted_as_by_python() {
    let template = ChatTemplate::new("{{ strftime_now('%Y-%m-%d %d %b %Y') }}", Map::new());
    let before = chrono::Local::now().format("%Y-%m-%d %d %b %Y").to_string();
    let rendered = template.render(&[], &TemplateOptions::default()).unwrap();
    let after = chrono::Local::now().format("%Y-%m-%d %d %b %Y").to_string();
    assert!(rendered == before || rendered == after, "{rendered}");
}
