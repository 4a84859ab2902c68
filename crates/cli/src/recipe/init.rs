//! `init`: writes a recipe to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use collimate_run::Error as RunError;
use miette::Report;
use serde_json::json;

use super::{Error, Shipped, template};
use crate::commands::{self, Action, Entry};
use crate::render;
use crate::session::Session;
use crate::settings::schema::Schema;

/// Write a commented recipe: one that comes with the program, or one of a command with all its settings.
///
/// Without a name, what there is is listed. A file that is there is never overwritten.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(rename_all = "snake_case")]
pub struct Config {
    /// The recipe or the command, such as judge or train dpo.
    #[arg(value_name = "NAME", num_args = 0..=2)]
    pub name: Vec<String>,
    /// The file to write; if not given, the name with the ending .toml.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A recipe that can be written.
pub struct Offer {
    /// What it is asked for by.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    file: String,
    text: Text,
}

enum Text {
    Shipped(&'static str),
    Command(Entry),
}

/// Writes what is named, or lists what can be.
///
/// # Errors
/// An unknown name, a file that is there or cannot be written.
pub fn run(session: &Session) -> Result<(), Report> {
    let Config { name, output } = session.settings()?;
    let (name, offers) = (name.join(" "), offers(&commands::all()));
    if name.is_empty() {
        if let Some(path) = output {
            return Err(Error::NothingNamed { path }.into());
        }
        let names: Vec<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
        return Ok(session.print(&names, render::offers(&offers))?);
    }
    let Some(offer) = offers.iter().find(|offer| offer.name == name) else {
        let known = offers.into_iter().map(|offer| offer.name).collect();
        return Err(Error::NothingToWrite { name, known }.into());
    };
    let path = output.unwrap_or_else(|| PathBuf::from(&offer.file));
    write_new(&path, &offer.text())?;
    let shown = path.display();
    let next = format!("{shown} is written; `collimate run {shown} --dry_run` shows what it would do");
    Ok(session.print(&json!({"written": path}), next)?)
}

/// What can be written: the recipes that come with the program, then the commands that are stages.
fn offers(entries: &[Entry]) -> Vec<Offer> {
    let shipped = Shipped::ALL.into_iter().map(|recipe| Offer {
        name: recipe.name.to_owned(),
        about: recipe.about().to_owned(),
        file: format!("{}.toml", recipe.name),
        text: Text::Shipped(recipe.text),
    });
    let stages = entries.iter().filter(|entry| matches!(entry.action, Action::Stage(_)));
    let commands = stages.map(|entry| Offer {
        name: entry.path.to_owned(),
        about: Schema::of(entry.arguments).about().lines().next().unwrap_or_default().to_owned(),
        file: format!("{}.toml", entry.section()),
        text: Text::Command(*entry),
    });
    shipped.chain(commands).collect()
}

impl Offer {
    fn text(&self) -> String {
        match &self.text {
            Text::Shipped(text) => (*text).to_owned(),
            Text::Command(entry) => template::of(entry),
        }
    }
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str) -> Result<(), Report> {
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    match opened.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(()),
        Err(refusal) if refusal.kind() == ErrorKind::AlreadyExists => {
            Err(Error::Exists { path: path.to_owned() }.into())
        }
        Err(refusal) => Err(RunError::write(path, refusal).into()),
    }
}
