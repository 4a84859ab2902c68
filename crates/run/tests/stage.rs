//! What the runner promises: nothing twice, nothing lost, nothing half done taken for whole.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use collimate_run::manifest::REPORT_FILE;
use collimate_run::{
    Context, Error, Event, Manifest, Outcome, Plan, Reporter, Result, RunOptions, Stage, atomic, real_path,
    run_stage,
};
use miette::Diagnostic;
use serde_json::{Value, json};

/// Copies its input, one line per call into `lines.txt`; stops before the end when told to.
struct Copy {
    input: PathBuf,
    output: PathBuf,
    settings: Value,
    fails: bool,
    /// What `resuming` was, for each time that the stage ran.
    ran: RefCell<Vec<bool>>,
}

impl Stage for Copy {
    const NAME: &'static str = "copy";
    type Error = Error;
    type Summary = u64;

    fn settings(&self) -> Value {
        self.settings.clone()
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![self.input.clone()]
    }

    fn output(&self) -> &Path {
        &self.output
    }

    fn run(&self, context: &Context) -> Result<u64> {
        self.ran.borrow_mut().push(context.resuming());
        let bytes = fs::read(&self.input).map_err(|source| Error::read(&self.input, source))?;
        atomic::write(context.output().join("copy"), &bytes)?;
        context.check()?;
        if self.fails { Err(Error::Interrupted) } else { Ok(bytes.len() as u64) }
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

/// A folder of its own for each test, with an input in it and a stage over it.
struct Room {
    folder: tempfile::TempDir,
    stage: Copy,
    notes: Notes,
    interrupted: AtomicBool,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input");
        atomic::write(&input, b"12345").unwrap();
        let stage = Copy {
            input,
            output: folder.path().join("out"),
            settings: json!({"beta": 0.1, "seed": 42}),
            fails: false,
            ran: RefCell::default(),
        };
        Self { folder, stage, notes: Notes::default(), interrupted: AtomicBool::new(false) }
    }

    fn run_with(&self, force: bool) -> Result<Outcome<u64>> {
        let options = RunOptions { force, ..RunOptions::new(&self.notes, &self.interrupted) };
        run_stage(&self.stage, &options)
    }

    fn run(&self) -> Result<Outcome<u64>> {
        self.run_with(false)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn runs(&self) -> Vec<bool> {
        self.stage.ran.borrow().clone()
    }

    fn note(&self) -> String {
        self.notes.0.lock().unwrap().pop().unwrap()
    }
}

#[test]
fn the_second_run_does_nothing() {
    let room = Room::new();
    let first = room.run().unwrap();
    assert!(!first.reused);
    let second = room.run().unwrap();
    assert!(second.reused);
    assert_eq!((first.summary, second.summary), (5, 5));
    assert_eq!(room.runs(), [false]);
    assert_eq!(first.manifest, second.manifest);
    assert!(!room.path("out/.lock").exists());
}

#[test]
fn a_journal_that_cannot_be_removed_does_not_keep_a_result_from_being_used() {
    let room = Room::new();
    room.run().unwrap();
    // As on a disk that is mounted to be read alone: what stands there cannot be unlinked.
    fs::create_dir(room.stage.output.join(collimate_run::JOURNAL_FILE)).unwrap();
    assert!(room.run().unwrap().reused);
}

#[test]
fn the_manifest_tells_what_was_run() {
    let room = Room::new();
    room.run().unwrap();
    let manifest = Manifest::load(&room.stage.output).unwrap().unwrap();
    assert_eq!((manifest.stage.as_str(), manifest.seed), ("copy", Some(42)));
    assert_eq!(manifest.settings, room.stage.settings);
    assert_eq!(manifest.summary, Some(json!(5)));
    assert_eq!(manifest.inputs[0].path, room.stage.input.display().to_string());
    assert_eq!(manifest.inputs[0].contents.blake3, blake3::hash(b"12345").to_hex().as_str());
    assert_eq!(manifest.inputs[0].contents.bytes, 5);
    assert!(manifest.finished.unwrap() >= manifest.started);
    assert!(manifest.seconds.is_some());
}

#[test]
fn a_changed_setting_runs_again_and_keeps_the_older_folder() {
    let mut room = Room::new();
    room.run().unwrap();
    room.stage.settings["beta"] = json!(0.2);
    assert!(!room.run().unwrap().reused);
    let note = room.note();
    assert!(note.ends_with("out~1; what changed: beta: 0.1 -> 0.2"), "{note}");
    let older = Manifest::load(&room.path("out~1")).unwrap().unwrap();
    assert_eq!(older.settings["beta"], json!(0.1));
    room.stage.settings["gamma"] = json!([1, 2]);
    room.run().unwrap();
    let note = room.note();
    assert!(note.ends_with("out~2; what changed: gamma: not set -> [1,2]"), "{note}");
    assert_eq!(room.runs(), [false, false, false]);
}

#[test]
fn the_order_of_settings_does_not_matter() {
    let mut room = Room::new();
    room.run().unwrap();
    room.stage.settings = json!({"seed": 42, "beta": 0.1});
    assert!(room.run().unwrap().reused);
}

#[test]
fn a_changed_input_runs_again() {
    let room = Room::new();
    room.run().unwrap();
    atomic::write(&room.stage.input, b"123456").unwrap();
    assert_eq!(room.run().unwrap().summary, 6);
    let note = room.note();
    assert!(
        note.ends_with(&format!("what changed: the contents of {}", room.stage.input.display())),
        "{note}"
    );
}

#[test]
fn force_runs_again_and_keeps_the_older_folder() {
    let room = Room::new();
    room.run().unwrap();
    assert!(!room.run_with(true).unwrap().reused);
    assert!(room.path("out~1/DONE").exists());
    assert_eq!(room.runs(), [false, false]);
}

#[test]
fn a_run_without_done_is_resumed() {
    let mut room = Room::new();
    room.stage.fails = true;
    assert!(matches!(room.run(), Err(Error::Interrupted)));
    assert!(!room.path("out/DONE").exists());
    let started = Manifest::load(&room.stage.output).unwrap().unwrap().started;
    // What a killed process leaves behind in the middle of an atomic write.
    fs::File::create(room.path("out/.copy.x1.part")).unwrap();
    room.stage.fails = false;
    let outcome = room.run().unwrap();
    assert_eq!(room.runs(), [false, true]);
    assert_eq!(outcome.manifest.started, started);
    assert!(!room.path("out/.copy.x1.part").exists());
    assert!(room.run().unwrap().reused);
}

#[test]
fn a_plan_says_what_would_be_done_and_touches_nothing() {
    let mut room = Room::new();
    let plan = |room: &Room, force| Plan::of(&room.stage, force).unwrap();
    assert_eq!(plan(&room, false), Plan::Begin);
    assert!(!room.stage.output.exists());
    room.stage.fails = true;
    room.run().unwrap_err();
    let unfinished = Manifest::load(&room.stage.output).unwrap().unwrap();
    assert_eq!(plan(&room, false), Plan::Resume(unfinished));
    room.stage.fails = false;
    let done = room.run().unwrap().manifest;
    assert_eq!(plan(&room, false), Plan::Reuse(done.clone()));
    assert!(matches!(plan(&room, true), Plan::Replace { reason } if reason.starts_with("nothing changed")));
    room.stage.settings = json!({"beta": 0.2, "seed": 42});
    let reason = "what changed: beta: 0.1 -> 0.2".to_owned();
    assert_eq!(plan(&room, false), Plan::Replace { reason });
    assert_eq!(Manifest::load(&room.stage.output).unwrap(), Some(done));
    assert_eq!(room.runs(), [false, true]);
    assert!(!room.path("out~1").exists());
}

#[test]
fn a_path_is_real_as_far_as_it_exists() {
    let room = Room::new();
    let folder = room.folder.path().canonicalize().unwrap();
    assert_eq!(real_path(&room.path("a/b/c")), folder.join("a/b/c"));
    fs::create_dir_all(room.path("a/b")).unwrap();
    assert_eq!(real_path(&room.path("a/../a/b/new/file")), folder.join("a/b/new/file"));
}

#[test]
fn killed_before_its_manifest_a_run_begins_anew() {
    let room = Room::new();
    fs::create_dir(room.path("out")).unwrap();
    fs::File::create(room.path("out/.lock")).unwrap();
    fs::File::create(room.path("out/.manifest.json.x1.part")).unwrap();
    assert!(!room.run().unwrap().reused);
    assert_eq!(room.runs(), [false]);
}

#[test]
fn an_interruption_reaches_the_stage() {
    let room = Room::new();
    room.interrupted.store(true, Ordering::Relaxed);
    let error = room.run().unwrap_err();
    assert_eq!(error.code().unwrap().to_string(), collimate_run::INTERRUPTED);
}

#[test]
fn a_folder_of_other_files_is_refused_and_left_alone() {
    let room = Room::new();
    fs::create_dir(room.path("out")).unwrap();
    atomic::write(room.path("out/thesis.tex"), b"x").unwrap();
    for force in [false, true] {
        let error = room.run_with(force).unwrap_err();
        assert!(
            matches!(error, Error::ForeignFolder { ref found, .. } if found == "thesis.tex"),
            "{error:?}"
        );
    }
    assert_eq!(fs::read_dir(room.path("out")).unwrap().count(), 1);
    assert!(room.runs().is_empty());
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_before_the_work() {
    let mut room = Room::new();
    // Below a file nobody can make a folder, not even root.
    let file = room.path("file");
    atomic::write(&file, b"x").unwrap();
    room.stage.output = file.join("out");
    let error = room.run().unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error:?}");
    assert!(error.help().unwrap().to_string().contains("name another output"));
    room.stage.output = file;
    assert!(matches!(room.run(), Err(Error::NotAFolder { .. })));
    assert!(room.runs().is_empty());
}

#[test]
fn an_input_within_the_output_is_refused() {
    let mut room = Room::new();
    room.run().unwrap();
    room.stage.input = room.path("out/copy");
    assert!(matches!(room.run(), Err(Error::Overlap { .. })));
    room.stage.input = room.folder.path().to_owned();
    assert!(matches!(room.run(), Err(Error::Overlap { .. })));
}

#[test]
fn an_input_that_is_not_there_is_named() {
    let mut room = Room::new();
    room.stage.input = room.path("absent");
    let error = room.run().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", room.path("absent").display()));
    assert!(!room.path("out").exists());
}

#[test]
fn an_input_of_an_unfinished_run_is_refused() {
    let mut room = Room::new();
    room.run().unwrap();
    room.stage.input = room.path("out/copy");
    room.stage.output = room.path("next");
    room.run().unwrap();
    fs::remove_file(room.path("out/DONE")).unwrap();
    let error = room.run().unwrap_err();
    assert!(matches!(error, Error::UnfinishedInput { ref stage, .. } if stage == "copy"), "{error:?}");
}

#[test]
fn the_times_in_an_inputs_manifest_and_a_report_do_not_count() {
    let room = Room::new();
    room.run().unwrap();
    let before = collimate_run::fingerprint::fingerprint(&room.stage.output).unwrap();
    room.run_with(true).unwrap();
    atomic::write(room.stage.output.join(REPORT_FILE), b"<!DOCTYPE html>").unwrap();
    assert_eq!(collimate_run::fingerprint::fingerprint(&room.stage.output).unwrap(), before);
    atomic::write(room.path("out/copy"), b"1234x").unwrap();
    assert_ne!(collimate_run::fingerprint::fingerprint(&room.stage.output).unwrap(), before);
}

#[test]
fn a_folder_that_is_being_written_is_left_alone() {
    let room = Room::new();
    room.run().unwrap();
    let lock = fs::File::create(room.path("out/.lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(room.run_with(true), Err(Error::AlreadyRunning { .. })));
    assert!(!room.path("out~1").exists());
    fs::remove_file(room.path("out/DONE")).unwrap();
    assert!(matches!(room.run(), Err(Error::AlreadyRunning { .. })));
}

#[test]
fn a_manifest_of_another_program_needs_force() {
    let room = Room::new();
    fs::create_dir(room.path("out")).unwrap();
    atomic::write(room.path("out/manifest.json"), b"{\"name\": \"x\"}").unwrap();
    let error = room.run().unwrap_err();
    assert!(matches!(error, Error::Manifest { .. }), "{error:?}");
    assert!(room.run_with(true).is_ok());
    assert!(room.path("out~1/manifest.json").exists());
}
