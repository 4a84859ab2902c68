//! The stages of the demo, one after the other, each as its command would run it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, Command};
use collimate_run::{Event, Outcome, RunOptions, Stage, run_stage};

use super::{Demo, Made, Summary};
use crate::Error;
use crate::data_clean::{self, DataClean};
use crate::data_sft::{self, DataSft};
use crate::eval_compare::{self, EvalCompare};
use crate::eval_loss::{self, EvalLoss};
use crate::train;
use crate::train::sft::TrainSft;

/// Steps between two checkpoints: a killed demo loses less than a minute.
const SAVE_STEPS: u64 = 5;

/// Tokens of an answer in the comparison.
const ANSWER_TOKENS: u64 = 100;

impl Demo {
    /// Runs the stages on a model and raw instructions.
    pub(super) fn walk(
        &self,
        model: PathBuf,
        instructions: PathBuf,
        options: &RunOptions,
    ) -> Result<Summary, Error> {
        let mut walk = Walk { options, seconds: 0.0, peak_memory_bytes: None, reused: true };
        let made = self.made(model, instructions);
        self.prepare(&made, &mut walk)?;
        let before = self.measure(&made, "before", &mut walk)?;
        let training = self.train(&made, &mut walk)?;
        let after = self.measure(&made, "after", &mut walk)?;
        let comparison = self.compare(&made, &mut walk)?;
        let Walk { seconds, peak_memory_bytes, reused, .. } = walk;
        Ok(Summary { before, after, training, comparison, seconds, peak_memory_bytes, reused, made })
    }

    fn made(&self, model: PathBuf, instructions: PathBuf) -> Made {
        let output = &self.config.output_dir;
        Made {
            model,
            instructions,
            cleaned: output.join("cleaned").join(data_clean::CLEANED_FILE),
            train: output.join("sft").join(data_sft::TRAIN_FILE),
            validation: output.join("sft").join(data_sft::VALIDATION_FILE),
            adapter: output.join("adapter"),
            comparison: output.join("compare").join(eval_compare::REPORT_FILE),
        }
    }

    fn prepare(&self, made: &Made, walk: &mut Walk) -> Result<(), Error> {
        let output = &self.config.output_dir;
        let words = [made.instructions.clone().into(), setting("output_dir", output.join("cleaned"))];
        walk.step("data clean", &words, DataClean::new)?;
        let words = [
            made.cleaned.clone().into(),
            setting("test_size", self.config.test_size.to_string()),
            setting("output_dir", output.join("sft")),
        ];
        walk.step("data sft", &words, DataSft::new)?;
        Ok(())
    }

    fn train(&self, made: &Made, walk: &mut Walk) -> Result<train::Summary, Error> {
        let words = [
            setting("model_name_or_path", &made.model),
            setting("dataset", &made.train),
            setting("max_steps", self.config.max_steps.to_string()),
            setting("learning_rate", self.config.learning_rate.to_string()),
            setting("logging_steps", "1"),
            setting("save_steps", SAVE_STEPS.to_string()),
            setting("save_total_limit", "1"),
            setting("output_dir", &made.adapter),
        ];
        walk.step("train sft", &words, |config| TrainSft::new(config, self.threads))
    }

    fn measure(&self, made: &Made, when: &str, walk: &mut Walk) -> Result<eval_loss::Summary, Error> {
        let mut words = vec![
            setting("model_name_or_path", &made.model),
            setting("dataset", &made.validation),
            setting("output_dir", self.config.output_dir.join(format!("loss_{when}"))),
        ];
        if when == "after" {
            words.push(setting("adapter_name_or_path", &made.adapter));
        }
        walk.step("eval loss", &words, |config| EvalLoss::new(config, self.threads))
    }

    fn compare(&self, made: &Made, walk: &mut Walk) -> Result<eval_compare::Summary, Error> {
        let words = [
            setting("model_name_or_path", &made.model),
            setting("adapter_name_or_path", &made.adapter),
            setting("max_new_tokens", ANSWER_TOKENS.to_string()),
            setting("output_dir", self.config.output_dir.join("compare")),
        ];
        walk.step("eval compare", &words, |config| EvalCompare::new(config, self.threads))
    }
}

/// What the stages have in common.
struct Walk<'a> {
    options: &'a RunOptions<'a>,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    reused: bool,
}

impl Walk<'_> {
    /// Says and runs a command; settings that are not among its words have the defaults of the command.
    fn step<C: Args, S: Stage>(
        &mut self,
        command: &'static str,
        words: &[OsString],
        build: impl FnOnce(C) -> S,
    ) -> Result<S::Summary, Error>
    where
        S::Error: From<collimate_run::Error>,
        Error: From<S::Error>,
    {
        let stage = build(parse(command, words)?);
        let shown: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        self.note(&format!("collimate {command} {}", shown.join(" ")));
        let Outcome { summary, reused, manifest } = run_stage(&stage, self.options)?;
        if reused {
            self.note(&format!("{} is finished and nothing changed", stage.output().display()));
        }
        self.reused &= reused;
        self.seconds += manifest.seconds.unwrap_or_default();
        self.peak_memory_bytes = self.peak_memory_bytes.max(manifest.peak_memory_bytes);
        Ok(summary)
    }

    fn note(&self, text: &str) {
        self.options.reporter.report(Event::Note(text));
    }
}

fn parse<C: Args>(command: &'static str, words: &[OsString]) -> Result<C, Error> {
    let arguments = C::augment_args(Command::new(command).no_binary_name(true));
    let parsed = arguments.try_get_matches_from(words).and_then(|matches| C::from_arg_matches(&matches));
    parsed.map_err(|source| Error::Settings { command, source: Box::new(source) })
}

/// `--name=value`, which holds whatever the value begins with.
fn setting(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut word = OsString::from(format!("--{name}="));
    word.push(value);
    word
}

/// A word as a shell takes it.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.contains(char::is_whitespace) { format!("'{word}'") } else { word.into_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use collimate_run::{Reporter, Silent, atomic};
    use miette::Diagnostic;

    use super::*;
    use crate::demo::Config;

    /// Walks over a tiny model and forty rows, into `output`.
    fn walk(
        folder: &Path,
        output: &str,
        reporter: &dyn Reporter,
        stop: &AtomicBool,
    ) -> Result<Summary, Error> {
        let row = |number: u32| {
            format!(
                r#"{{"instruction": "Add {number} and {}.", "output": "It is {}."}}"#,
                3 * number,
                4 * number
            )
        };
        let rows = folder.join("rows.jsonl");
        let text = (0..40).map(row).collect::<Vec<_>>().join("\n");
        atomic::write(&rows, text.as_bytes()).unwrap();
        let words = ["--max_steps=12", "--learning_rate=0.02", "--test_size=0.2"].map(OsString::from);
        let words = [words.to_vec(), vec![setting("output_dir", folder.join(output))]].concat();
        let demo = Demo::new(parse::<Config>("demo", &words)?, folder.to_owned(), Some(1));
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama");
        demo.walk(model, rows, &RunOptions { force: false, reporter, interrupted: stop })
    }

    /// Wants to stop at the seventh step of the training, two after a checkpoint.
    struct StopInTraining<'a>(&'a AtomicBool);

    impl Reporter for StopInTraining<'_> {
        fn report(&self, event: Event<'_>) {
            if let Event::Advanced { done: 7, fields } = event
                && fields.iter().any(|(name, _)| *name == "learning_rate")
            {
                self.0.store(true, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn the_loss_falls_and_a_second_walk_does_nothing() {
        let (folder, calm) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let first = walk(folder.path(), "demo", &Silent, &calm).unwrap();
        assert!(!first.reused);
        assert_eq!((first.training.steps, first.before.sequences), (12, 8));
        let (before, after) = (first.before.loss.value, first.after.loss.value);
        // Of text that is all alike even a tiny model learns much in a few steps.
        assert!(after < 0.9 * before, "{before} -> {after}");
        for path in [&first.made.cleaned, &first.made.train, &first.made.validation, &first.made.comparison] {
            assert!(path.is_file(), "{}", path.display());
        }
        assert!(first.made.adapter.join("adapter_model.safetensors").is_file());
        let second = walk(folder.path(), "demo", &Silent, &calm).unwrap();
        assert_eq!(second, Summary { reused: true, ..first });
    }

    #[test]
    fn a_stopped_walk_goes_on_to_the_same_end() {
        let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
        let whole = walk(folder.path(), "whole", &Silent, &stop).unwrap();
        let stopped = walk(folder.path(), "parts", &StopInTraining(&stop), &stop).unwrap_err();
        assert_eq!(stopped.code().map(|code| code.to_string()).as_deref(), Some(collimate_run::INTERRUPTED));
        stop.store(false, Ordering::Relaxed);
        let parts = walk(folder.path(), "parts", &Silent, &stop).unwrap();
        let adapter = |made: &Made| fs::read(made.adapter.join("adapter_model.safetensors")).unwrap();
        assert!(adapter(&whole.made) == adapter(&parts.made));
        assert_eq!(whole.after.loss, parts.after.loss);
    }

    #[test]
    fn a_command_can_be_typed_as_it_is_shown() {
        let words = [OsString::from("a b.json"), setting("output_dir", "-x")];
        let shown: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        assert_eq!(shown, ["'a b.json'", "--output_dir=-x"]);
        assert_eq!(parse::<data_sft::Config>("data sft", &words).unwrap().output_dir, Path::new("-x"));
        let error = parse::<data_sft::Config>("data sft", &[OsString::from("--test_size=x")]).unwrap_err();
        assert_eq!(error.to_string(), "the settings do not fit `data sft`");
    }
}
