//! A recipe of one step, made of what its command declares: every setting, with help, type and default.

use clap::Arg;
use textwrap::{Options, fill};

use crate::commands::Entry;
use crate::settings::schema::{self, Schema};

/// The width of a line.
const WIDTH: usize = 110;

/// The recipe whose only step is `entry`; required settings are to be filled in, all others are comments.
pub fn of(entry: &Entry) -> String {
    let (schema, section) = (Schema::of(entry.arguments), entry.section());
    let mut text = comment(&schema.about());
    text += &format!("#\n#     collimate run {section}.toml\n\n[{section}]\n");
    let mut heading = None;
    for argument in schema.arguments() {
        if argument.get_help_heading() != heading {
            heading = argument.get_help_heading();
            text += &heading.map(|heading| format!("\n# {heading}\n")).unwrap_or_default();
        }
        let help = argument.get_long_help().or(argument.get_help());
        text += "\n";
        text += &comment(&help.map(ToString::to_string).unwrap_or_default());
        text += &line(argument);
    }
    text
}

/// `name = value`: the default, or what kind of value it takes.
fn line(argument: &Arg) -> String {
    let name = argument.get_id();
    let (mark, value, note) = match schema::default(argument) {
        _ if argument.is_required_set() => ("", blank(argument), Some("required".to_owned())),
        Some(default) => ("# ", default.to_string(), None),
        None => ("# ", blank(argument), None),
    };
    let notes: Vec<String> = [schema::described(argument), note].into_iter().flatten().collect();
    let notes = if notes.is_empty() { String::new() } else { format!("  # {}", notes.join("; ")) };
    format!("{mark}{name} = {value}{notes}\n")
}

/// What stands for a value that is to be filled in.
fn blank(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let name = names.first().map_or("VALUE", |name| name.as_str());
    format!("{name:?}")
}

fn comment(text: &str) -> String {
    let wrapped = |line: &str| match line.trim() {
        "" => "#\n".to_owned(),
        line => fill(line, Options::new(WIDTH).initial_indent("# ").subsequent_indent("# ")) + "\n",
    };
    text.lines().map(wrapped).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::commands::{self, Action};
    use crate::settings::Document;

    /// Every default stands in a comment that is a setting once the `#` is gone, and means what it meant.
    #[test]
    fn a_default_can_be_uncommented() {
        for entry in commands::all() {
            let Action::Stage(_) = entry.action else { continue };
            let schema = Schema::of(entry.arguments);
            let defaults: Vec<&Arg> =
                schema.arguments().filter(|argument| schema::default(argument).is_some()).collect();
            let marked = |line: &str| {
                defaults.iter().any(|argument| line.starts_with(&format!("# {} = ", argument.get_id())))
            };
            let text = of(&entry);
            let lines = text.lines().map(|line| if marked(line) { &line[2..] } else { line });
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            let document = Document::parse(Path::new(entry.path), &text).unwrap();
            let found = &document.tables[0].settings;
            for argument in defaults {
                let setting =
                    found.iter().find(|setting| argument.get_id() == setting.name.as_str()).unwrap();
                schema.check(setting).unwrap();
                let given = argument.get_default_values().iter().map(|text| text.to_string_lossy());
                let given: Vec<_> = given.collect();
                let texts = schema::texts(argument, &setting.value);
                assert!(
                    given.is_empty() && texts == ["false"] || given == texts,
                    "{}: {texts:?}",
                    setting.name
                );
            }
        }
    }

    #[test]
    fn every_setting_is_described() {
        let entry = commands::all().into_iter().find(|entry| entry.path == "data clean").unwrap();
        insta::assert_snapshot!(of(&entry));
    }
}
