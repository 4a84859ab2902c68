//! A recipe as it is written: which command each step is, and which settings it gets.

use std::path::PathBuf;

use miette::Report;
use toml::Value;

use super::{Error, OUTPUT_DIR, Source};
use crate::commands::{Action, Entry};
use crate::job::Job;
use crate::session::Session;
use crate::settings::schema::Schema;
use crate::settings::{COMMAND, Section, Setting};

/// The folder of all recipes that name none.
const RUNS: &str = "runs";

/// The steps, before anything is made of their settings.
pub struct Draft<'a> {
    pub name: String,
    pub root: PathBuf,
    pub steps: Vec<DraftStep<'a>>,
}

/// A step: its command, and the settings that it sets or shares.
pub struct DraftStep<'a> {
    pub name: String,
    pub place: String,
    pub entry: &'a Entry,
    pub stage: fn(&Session) -> Result<Box<dyn Job>, Report>,
    pub schema: Schema,
    pub settings: Vec<Setting>,
}

impl<'a> Draft<'a> {
    /// Finds each step's command and settings.
    pub fn of(source: Source, entries: &'a [Entry]) -> Result<Self, Error> {
        let Source { document, sets, root } = source;
        let steps: Result<Vec<_>, Error> =
            document.tables.into_iter().map(|table| DraftStep::of(table, entries)).collect();
        let (mut steps, mut shared) = (steps?, document.top);
        let (of_one, mut of_all): (Vec<_>, Vec<_>) = sets.into_iter().partition(|set| set.name.contains('.'));
        if steps.is_empty() {
            return Err(Error::NoSteps { path: document.path });
        }
        let stem = document.path.file_stem().unwrap_or_default();
        let folder = text_of(&mut shared, OUTPUT_DIR, "runs/judge")?;
        let folder = text_of(&mut of_all, OUTPUT_DIR, "runs/judge")?.or(folder);
        let root = root.or(folder.map(PathBuf::from)).unwrap_or_else(|| PathBuf::from(RUNS).join(stem));
        // The last one counts: what is set for one step over what is set for all.
        for set in of_all {
            set_over_all(&mut steps, &set)?;
        }
        for set in of_one {
            let (step, name) = set.name.split_once('.').unwrap_or_default();
            let name = name.to_owned();
            find(&mut steps, step, &set.place)?.settings.push(Setting { name, ..set.clone() });
        }
        share(&mut steps, &shared)?;
        Ok(Self { name: stem.to_string_lossy().into_owned(), root, steps })
    }
}

impl<'a> DraftStep<'a> {
    fn of(table: Section, entries: &'a [Entry]) -> Result<Self, Error> {
        let Section { name, place, mut settings } = table;
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
        if !is_name {
            return Err(Error::BadName { place, name });
        }
        let command = text_of(&mut settings, COMMAND, "train dpo")?;
        let entry = match &command {
            Some(command) => entries.iter().find(|entry| entry.path == command),
            None => entries.iter().find(|entry| entry.section() == name),
        };
        let stages = || entries.iter().filter(|entry| matches!(entry.action, Action::Stage(_)));
        match (entry.map(|entry| (entry, entry.action)), command) {
            (Some((entry, Action::Stage(stage))), _) => {
                let schema = Schema::of(entry.arguments);
                Ok(Self { name, place, entry, stage, schema, settings })
            }
            (Some((entry, _)), _) => Err(Error::NoStage { place, command: entry.path.to_owned() }),
            (None, Some(command)) => {
                let known = stages().map(|entry| entry.path.to_owned()).collect();
                Err(Error::UnknownCommand { place, command, known })
            }
            (None, None) => {
                let known = stages().map(Entry::section).collect();
                Err(Error::NoCommand { place, name, known })
            }
        }
    }

    /// Whether the command has a setting of this name that nothing excludes which is set here.
    fn can_take(&self, setting: &Setting) -> bool {
        let excludes = |own: &Setting| self.schema.conflict(&own.name, &setting.name);
        self.schema.by_name(&setting.name).is_some() && !self.settings.iter().any(excludes)
    }

    /// Whether a shared setting is for this step, which then does not set it itself.
    fn takes(&self, shared: &Setting) -> bool {
        self.can_take(shared) && !self.settings.iter().any(|own| own.name == shared.name)
    }
}

/// Sets something for every step that can take it, whatever the file says.
fn set_over_all(steps: &mut [DraftStep], set: &Setting) -> Result<(), Error> {
    refuse_unknown(steps, set)?;
    let mut heeded = false;
    for step in steps.iter_mut().filter(|step| step.can_take(set)) {
        step.settings.push(set.clone());
        heeded = true;
    }
    let unheeded = || Error::Unheeded { place: set.place.clone(), name: set.name.clone() };
    heeded.then_some(()).ok_or_else(unheeded)
}

/// Gives the shared settings to the steps that take them.
fn share(steps: &mut [DraftStep], shared: &[Setting]) -> Result<(), Error> {
    for setting in shared {
        refuse_unknown(steps, setting)?;
    }
    for step in steps {
        let taken: Vec<Setting> = shared.iter().filter(|setting| step.takes(setting)).cloned().collect();
        step.settings.extend(taken);
    }
    Ok(())
}

/// A setting for all steps that no command knows is a slip.
fn refuse_unknown(steps: &[DraftStep], setting: &Setting) -> Result<(), Error> {
    if steps.iter().any(|step| step.schema.by_name(&setting.name).is_some()) {
        return Ok(());
    }
    let (place, name) = (setting.place.clone(), setting.name.clone());
    let known = steps.iter().flat_map(|step| step.schema.names()).collect();
    Err(Error::UnknownShared { place, name, known })
}

fn find<'s, 'a>(
    steps: &'s mut [DraftStep<'a>],
    name: &str,
    place: &str,
) -> Result<&'s mut DraftStep<'a>, Error> {
    let known = steps.iter().map(|step| step.name.clone()).collect();
    let unknown = Error::UnknownStep { place: place.to_owned(), name: name.to_owned(), known };
    steps.iter_mut().find(|step| step.name == name).ok_or(unknown)
}

/// Takes the last text of this name out of the settings, if there is one.
fn text_of(
    settings: &mut Vec<Setting>,
    name: &'static str,
    example: &'static str,
) -> Result<Option<String>, Error> {
    let mut found = None;
    for setting in settings.extract_if(.., |setting| setting.name == name) {
        match setting.value {
            Value::String(text) => found = Some(text),
            _ => return Err(Error::NoText { place: setting.place, name, example }),
        }
    }
    Ok(found)
}
