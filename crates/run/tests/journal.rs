//! Journals: whatever a kill or a damage leaves of one, the run ends with the bytes of one that was never
//! stopped.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use collimate_run::{
    Context, Error, Event, JOURNAL_FILE, Journal, Outcome, Reporter, Result, RunOptions, Silent, Stage,
    atomic, run_stage,
};
use miette::Diagnostic;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Items of a run.
const ITEMS: u64 = 7;
const OUTPUT_FILE: &str = "output.txt";

/// Does its items from the last to the first, and writes them in their order.
struct Texts {
    output: PathBuf,
    /// Items after which it is stopped.
    stopped_after: Cell<u64>,
    /// Items done in the last run.
    done: Cell<u64>,
}

impl Texts {
    fn new(folder: &Path) -> Self {
        Self { output: folder.join("out"), stopped_after: Cell::new(u64::MAX), done: Cell::new(0) }
    }

    fn run(&self, reporter: &dyn Reporter) -> Result<Outcome<u64>> {
        let interrupted = AtomicBool::new(false);
        run_stage(self, &RunOptions::new(reporter, &interrupted))
    }

    /// Stopped when all is in the journal and nothing in the output.
    fn stop_before_the_output(&self) {
        self.stopped_after.set(ITEMS);
        assert!(matches!(self.run(&Silent), Err(Error::Interrupted)));
        self.stopped_after.set(u64::MAX);
    }

    fn journal(&self) -> PathBuf {
        self.output.join(JOURNAL_FILE)
    }

    fn result(&self) -> String {
        fs::read_to_string(self.output.join(OUTPUT_FILE)).unwrap()
    }
}

fn text(item: u64) -> String {
    format!("item {item}\n{}\u{1f41d} \"", "é".repeat(item as usize))
}

impl Stage for Texts {
    const NAME: &'static str = "texts";
    type Error = Error;
    type Summary = u64;

    fn settings(&self) -> Value {
        json!({})
    }

    fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn output(&self) -> &Path {
        &self.output
    }

    fn run(&self, context: &Context) -> Result<u64> {
        let mut journal: Journal<[u64; 2], String> = Journal::open(context)?;
        self.done.set(0);
        for item in (0..ITEMS).rev().filter(|item| !journal.contains(&[*item, 0])).collect::<Vec<_>>() {
            journal.append([item, 0], &text(item))?;
            self.done.set(self.done.get() + 1);
        }
        if self.stopped_after.get() <= journal.len() as u64 {
            return Err(Error::Interrupted);
        }
        let texts: Result<Vec<String>> =
            (0..ITEMS).map(|item| Ok(journal.get(&[item, 0])?.unwrap())).collect();
        atomic::write(context.output().join(OUTPUT_FILE), texts?.concat().as_bytes())?;
        Ok(journal.len() as u64)
    }
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn report(&self, event: Event<'_>) {
        if let Event::Note(note) = event {
            self.0.lock().unwrap().push(note.to_owned());
        }
    }
}

#[test]
fn a_finished_run_has_its_output_and_no_journal() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Texts::new(folder.path());
    assert_eq!(stage.run(&Silent).unwrap().summary, ITEMS);
    assert_eq!((stage.result(), stage.done.get()), ((0..ITEMS).map(text).collect(), ITEMS));
    assert!(!stage.journal().exists());
}

#[test]
fn a_record_is_a_line_that_a_person_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Texts::new(folder.path());
    stage.stop_before_the_output();
    let journal = fs::read_to_string(stage.journal()).unwrap();
    assert_eq!(journal.lines().count() as u64, ITEMS);
    let line = journal.lines().last().unwrap();
    let record: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&record["key"], &record["value"]), (&json!([0, 0]), &json!(text(0))));
    let body = line.split_once(',').unwrap().1;
    assert_eq!(record["crc32c"], format!("{:08x}", crc32c::crc32c(body.as_bytes())));
}

#[test]
fn a_kill_after_done_leaves_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Texts::new(folder.path());
    stage.run(&Silent).unwrap();
    atomic::write(stage.journal(), b"left over").unwrap();
    assert!(stage.run(&Silent).unwrap().reused);
    assert!(!stage.journal().exists());
}

#[test]
fn damage_in_the_middle_is_counted_and_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Texts::new(folder.path());
    stage.stop_before_the_output();
    let mut bytes = fs::read(stage.journal()).unwrap();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    bytes[end - 3] ^= 1;
    atomic::write(stage.journal(), &bytes).unwrap();
    let notes = Notes::default();
    stage.run(&notes).unwrap();
    assert_eq!((stage.result(), stage.done.get()), ((0..ITEMS).map(text).collect(), 1));
    let notes = notes.0.into_inner().unwrap();
    assert!(notes[0].starts_with("damaged records in ") && notes[0].ends_with("again: 1"), "{notes:?}");
    assert_eq!(notes[1], "going on; items finished already: 6");
}

#[test]
fn a_whole_record_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Texts::new(folder.path());
    stage.stop_before_the_output();
    let body = r#""key":"a name","value":1}"#;
    let line = format!("{{\"crc32c\":\"{:08x}\",{body}\n", crc32c::crc32c(body.as_bytes()));
    atomic::write(stage.journal(), line.as_bytes()).unwrap();
    let error = stage.run(&Silent).unwrap_err();
    assert!(error.to_string().ends_with("holds a record that this version cannot read"), "{error}");
    assert!(error.help().unwrap().to_string().contains("remove it"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cut_at_any_byte_it_goes_on_to_the_same_bytes(cut in 0.0..=1.0_f64, torn in any::<[u8; 3]>()) {
        let folder = tempfile::tempdir().unwrap();
        let stage = Texts::new(folder.path());
        stage.stop_before_the_output();
        let mut bytes = fs::read(stage.journal()).unwrap();
        bytes.truncate((cut * bytes.len() as f64) as usize);
        let whole = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        // What a power cut may leave behind the last whole block.
        bytes.extend(torn.iter().filter(|byte| **byte != b'\n'));
        atomic::write(stage.journal(), &bytes).unwrap();
        stage.run(&Silent).unwrap();
        prop_assert_eq!(stage.result(), (0..ITEMS).map(text).collect::<String>());
        prop_assert_eq!(stage.done.get(), ITEMS - whole);
    }
}
