//! External programs: ones that answer, in order and out of it, and ones that hang, crash and talk.

#![cfg(unix)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Case, score, score_until};
use collimate_reward::{Error, Program, ProgramError, Reward};
use collimate_run::{Error as RunError, atomic};
use serde_json::json;
use tempfile::TempDir;

/// The number in the completion `c17` as the reward: `{"reward": 17}`.
const ECHO: &str = r#"sed -u 's/.*"completion":"c\([0-9]*\)".*/{"reward": \1}/'"#;

/// A shell script as a reward, in a folder of its own, where it may leave files.
struct Script {
    folder: TempDir,
    program: Program,
}

impl Script {
    fn new(text: &str, seconds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reward.sh");
        atomic::write(&path, text.as_bytes()).unwrap();
        let command = format!("sh '{}' '{}'", path.display(), folder.path().display());
        Self { folder, program: Program::new(&command, Duration::from_secs(seconds)).unwrap() }
    }

    fn score(&mut self, cases: &[Case]) -> Result<Vec<f64>, Error> {
        score(&mut self.program, cases)
    }

    /// How it fails on rows 10, 11 and 12.
    fn failure(&mut self) -> ProgramError {
        match self.score(&cases(3)) {
            Err(Error::Program(error)) => *error,
            other => panic!("{other:?}"),
        }
    }

    /// How often it was started, where it leaves a line for each start.
    fn starts(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("starts")).unwrap().lines().count()
    }
}

/// Completions `c0`, `c1` … of rows 10, 11 …
fn cases(count: u64) -> Vec<Case> {
    let case = |number: u64| {
        let fields = json!({ "prompt": "Say \"it\"\n", "answer": number });
        Case::new(10 + number, fields, &format!("c{number}"))
    };
    (0..count).map(case).collect()
}

fn numbers(count: u64) -> Vec<f64> {
    (0..count).map(|number| number as f64).collect()
}

#[test]
fn a_program_is_started_once_and_answers_in_order() {
    let mut script = Script::new(&format!("echo . >> \"$1/starts\"\n{ECHO}\n"), 60);
    for count in [3, 0, 5] {
        assert_eq!(script.score(&cases(count)).unwrap(), numbers(count));
    }
    assert_eq!((script.starts(), script.program.name()), (1, "program"));
}

#[test]
fn it_is_given_the_prompt_and_the_whole_row() {
    let mut script = Script::new("tee \"$1/asked\" | sed -u 's/.*/{\"reward\": 1}/'", 60);
    script.score(&cases(2)).unwrap();
    let Script { folder, program } = script;
    // It may still be writing the last line to the file.
    drop(program);
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    let expected = json!({
        "id": 1, "prompt": "Say \"it\"\n", "completion": "c1", "row": { "prompt": "Say \"it\"\n", "answer": 1 },
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(asked.lines().nth(1).unwrap()).unwrap(), expected);
}

#[test]
fn answers_out_of_order_find_their_question_by_its_id() {
    // After the first, every two are answered the second one first; ids go on from batch to batch.
    let answer = r#"s/.*"id":\([0-9]*\).*"completion":"c\([0-9]*\)".*/{"id": \1, "reward": \2}/"#;
    let swap = format!("sed -u -n '{answer};1{{p;d}};h;n;{answer};p;x;p'");
    let mut script = Script::new(&swap, 60);
    for count in [5, 2] {
        assert_eq!(script.score(&cases(count)).unwrap(), numbers(count));
    }
}

#[test]
fn five_thousand_at_once_do_not_lock_up() {
    // Long completions fill the pipes in both directions; one program reads all but the first before it answers again.
    let mut all = cases(5_000);
    for case in &mut all {
        case.fields.insert("long".to_owned(), "x".repeat(500).into());
    }
    let answers = format!(
        r#"s/.*"id":\([0-9]*\).*"completion":"c\([0-9]*\)".*/{{"id": \1, "reward": \2, "more": "{}"}}/"#,
        "y".repeat(500)
    );
    let patient = format!(
        "read -r line\nprintf '%s\\n' \"$line\" | sed '{answers}'\nhead -n 4999 > \"$1/kept\"\n\
         sed '{answers}' \"$1/kept\"\nexec sleep 100"
    );
    for text in [ECHO, patient.as_str()] {
        assert_eq!(Script::new(text, 60).score(&all).unwrap(), numbers(5_000));
    }
}

#[test]
fn one_that_hangs_once_is_started_again() {
    let text = r#"echo . >> "$1/starts"
while read -r line; do
  case $line in *'"c1"'*) if [ ! -e "$1/hung" ]; then : > "$1/hung"; exec sleep 100; fi;; esac
  printf '%s\n' "$line" | sed 's/.*"completion":"c\([0-9]*\)".*/{"reward": \1}/'
done"#;
    let mut script = Script::new(text, 1);
    assert_eq!(script.score(&cases(3)).unwrap(), numbers(3));
    assert_eq!(script.starts(), 2);
}

#[test]
fn one_that_always_hangs_at_a_row_is_named_with_it() {
    let text = r#"echo . >> "$1/starts"
while read -r line; do
  case $line in *'"c1"'*) echo thinking >&2; exec sleep 100;; esac
  echo '{"reward": 1}'
done"#;
    let (mut script, begun) = (Script::new(text, 1), Instant::now());
    let ProgramError::Silent { row: 11, seconds: 1, said, .. } = script.failure() else { panic!() };
    assert!(said.ends_with("\n  thinking"), "{said}");
    assert_eq!(script.starts(), 2);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn one_that_crashes_once_is_asked_again_for_the_rest_alone() {
    let text = r#"echo . >> "$1/starts"
while read -r line; do
  printf '%s\n' "$line" >> "$1/asked"
  case $line in *'"c1"'*) if [ ! -e "$1/crashed" ]; then : > "$1/crashed"; exit 3; fi;; esac
  printf '%s\n' "$line" | sed 's/.*"completion":"c\([0-9]*\)".*/{"reward": \1}/'
done"#;
    let mut script = Script::new(text, 60);
    assert_eq!(script.score(&cases(3)).unwrap(), numbers(3));
    assert_eq!(script.starts(), 2);
    let asked = std::fs::read_to_string(script.folder.path().join("asked")).unwrap();
    let asked_for = |name: &str| asked.lines().filter(|line| line.contains(name)).count();
    assert_eq!([asked_for("\"c0\""), asked_for("\"c1\""), asked_for("\"c2\"")], [1, 2, 1]);
}

#[test]
fn one_that_always_crashes_at_a_row_is_named_with_it() {
    let text = r#"echo . >> "$1/starts"
while read -r line; do
  case $line in *'"c1"'*) echo "cannot do c1" >&2; exit 3;; esac
  echo '{"reward": 1}'
done"#;
    let mut script = Script::new(text, 60);
    let ProgramError::Ended { row: 11, status, said, .. } = script.failure() else { panic!() };
    assert!(status.contains('3') && said.ends_with("\n  cannot do c1"), "{status} {said}");
    assert_eq!(script.starts(), 2);
    // One that has a new trouble at each start comes to its end all the same.
    let mut script = Script::new("read -r line\necho '{\"reward\": 1}'", 60);
    assert_eq!(script.score(&cases(4)).unwrap(), [1.0; 4]);
}

#[test]
fn noise_is_an_error_that_shows_it() {
    for (line, reason) in [
        ("Loading the model...", "it is not a JSON object"),
        ("{\"score\": 1}", "it has no reward"),
        ("{\"id\": 99, \"reward\": 1}", "its id is of no question, or was answered before"),
    ] {
        let mut script = Script::new(
            &format!("read -r line\necho '{{\"reward\": 1}}'\nread -r line\necho '{line}'\nexec sleep 100"),
            60,
        );
        let ProgramError::Noise { row: 11, line: shown, reason: found, .. } = script.failure() else {
            panic!()
        };
        assert_eq!((shown.as_str(), found.as_str()), (line, reason));
    }
}

#[test]
fn an_answer_too_many_is_not_taken_for_the_next_batch_s() {
    let mut script =
        Script::new("while read -r line; do echo '{\"reward\": 1}'; echo '{\"reward\": 2}'; done", 60);
    script.score(&cases(1)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let ProgramError::Noise { row: 10, reason, .. } = script.failure() else { panic!() };
    assert_eq!(reason, "nothing was asked");
    // Nor within a batch for the next completion's, for long.
    let Err(Error::Program(error)) = script.score(&cases(200)) else { panic!() };
    let ProgramError::Noise { reason, .. } = *error else { panic!("{error:?}") };
    assert_eq!(reason, "nothing was asked");
}

#[test]
fn once_answers_have_ids_one_without_is_noise() {
    let text = r#"read -r line
echo '{"id": 0, "reward": 1}'
echo '{"reward": 1}'
exec sleep 100"#;
    let ProgramError::Noise { row: 11, reason, .. } = Script::new(text, 60).failure() else { panic!() };
    assert_eq!(reason, "it has no id, as those before it had");
    // And an id of what was not asked yet belongs to nothing.
    let text = "read -r line\necho '{\"id\": 1, \"reward\": 1}'\nexec sleep 100";
    let ProgramError::Noise { row: 10, .. } = Script::new(text, 60).failure() else { panic!() };
}

#[test]
fn blank_lines_are_neither_answers_nor_signs_of_life() {
    let mut script =
        Script::new("while read -r line; do echo; echo '{\"reward\": 1}'; echo; echo ' '; done", 60);
    for _ in 0..2 {
        assert_eq!(script.score(&cases(3)).unwrap(), [1.0; 3]);
        std::thread::sleep(Duration::from_millis(200));
    }
    let begun = Instant::now();
    let mut script = Script::new("while :; do echo; sleep 0.2; done", 1);
    let ProgramError::Silent { row: 10, .. } = script.failure() else { panic!() };
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn whatever_it_has_started_ends_with_it() {
    let text = r#"sleep 1000 &
echo $! > "$1/pid"
while read -r line; do echo '{"reward": 1}'; done"#;
    let mut script = Script::new(text, 60);
    assert_eq!(script.score(&cases(1)).unwrap(), [1.0]);
    let pid = std::fs::read_to_string(script.folder.path().join("pid")).unwrap();
    let Script { folder: _folder, program } = script;
    drop(program);
    // One that is dead stays until its new parent has seen it.
    let lives = || {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("status"));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    };
    let begun = Instant::now();
    while lives() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!lives());
}

#[test]
fn the_files_that_a_command_names_are_found_within_a_shell_s_words_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reward.py");
    atomic::write(&path, b"").unwrap();
    let shown = path.display();
    for command in [format!("python3 {shown}"), format!("sh -c 'cd /; python3 {shown} | cat'")] {
        assert_eq!(Program::files(&command).as_slice(), std::slice::from_ref(&path), "{command}");
    }
    assert!(Program::files(&format!("ls {}", folder.path().display())).is_empty());
}

#[test]
fn what_is_no_number_is_an_error_with_its_row() {
    let first = "read -r line\necho '{\"id\": 0, \"reward\": 1}'\nread -r line\n";
    for value in ["NaN", "-Infinity", "\"1\"", "null", "[1]"] {
        let text = format!("{first}echo '{{\"id\": 1, \"reward\": {value}}}'; exec sleep 100");
        let ProgramError::NoNumber { row: 11, .. } = Script::new(&text, 60).failure() else {
            panic!("{value}")
        };
    }
}

#[test]
fn one_that_cannot_be_started_or_split_says_so() {
    let mut missing = Program::new("no-such-program --flag", Duration::from_secs(1)).unwrap();
    let failed = score(&mut missing, &cases(1)).unwrap_err();
    assert_eq!(failed.to_string(), "no-such-program --flag cannot be started");
    for command in ["sh 'a", " "] {
        assert!(matches!(Program::new(command, Duration::from_secs(1)), Err(Error::Unusable { .. })));
    }
}

#[test]
fn it_ends_with_its_reward_even_if_it_hangs() {
    let text =
        "echo $$ > \"$1/pid\"\ntrap '' TERM\nread -r line\necho '{\"reward\": 1}'\nwhile :; do sleep 1; done";
    let mut script = Script::new(text, 60);
    script.score(&cases(1)).unwrap();
    let pid = std::fs::read_to_string(script.folder.path().join("pid")).unwrap();
    let Script { folder: _folder, program } = script;
    drop(program);
    assert!(!Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn a_person_can_stop_while_it_is_waited_for() {
    let mut script = Script::new("exec sleep 100", 60);
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let failed = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        });
        score_until(&mut script.program, &cases(1), &stop)
    });
    assert!(matches!(failed, Err(Error::Run(RunError::Interrupted))));
    assert!(begun.elapsed() < Duration::from_secs(20));
}
