//! Four layers, one struct; what is refused and in which words.

use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use miette::Diagnostic;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Schedule {
    Linear,
    Cosine,
}

#[derive(Debug, Clone, PartialEq, Args)]
struct Example {
    /// A model.
    #[arg(long)]
    model: PathBuf,
    /// A number.
    #[arg(long, default_value_t = 2e-4)]
    learning_rate: f64,
    /// A count.
    #[arg(long, default_value_t = 512)]
    max_length: usize,
    /// A choice.
    #[arg(long, value_enum, default_value_t = Schedule::Linear)]
    schedule: Schedule,
    /// A list.
    #[arg(long, value_delimiter = ',', default_values_t = ["q_proj".to_owned(), "v_proj".to_owned()])]
    target_modules: Vec<String>,
    /// A switch.
    #[arg(long)]
    packing: bool,
    /// Something without default.
    #[arg(long, conflicts_with = "packing")]
    early_stopping: Option<u32>,
}

/// Merges as the application does: first a lenient look at what was typed, then the layers.
fn merged(typed: &[&str], file: &str, sets: &[&str]) -> Result<Example> {
    let command =
        Example::augment_args(clap::Command::new("x")).mut_args(|argument| argument.required(false));
    let words = ["x"].iter().chain(typed);
    let matches = command.try_get_matches_from(words).unwrap();
    let mut overrides = read_text(file).unwrap();
    overrides.extend(parse_sets(&sets.iter().map(ToString::to_string).collect::<Vec<_>>())?);
    merge(&matches, &overrides, Absent::Refused)
}

fn read_text(text: &str) -> Result<Vec<Setting>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let sections = ["train_sft", "data_clean"].map(str::to_owned);
    let settings = read_file(file.path(), "train_sft", &sections);
    settings.map(|settings| {
        let short = |place: String| place.replace(&file.path().display().to_string(), "run.toml");
        settings.into_iter().map(|setting| Setting { place: short(setting.place), ..setting }).collect()
    })
}

fn message(result: Result<Example>) -> (String, String) {
    let error = result.unwrap_err();
    let help = error.help().map(|help| help.to_string()).unwrap_or_default();
    (error.to_string(), help)
}

#[test]
fn a_flag_counts_over_set_over_the_file_over_the_default() {
    let file = "model = \"a\"\nlearning_rate = 1e-3\nmax_length = 64\nschedule = \"cosine\"\n";
    let sets = ["learning_rate=1e-2", "max_length=128"];
    let example = merged(&["--max-length", "256"], file, &sets).unwrap();
    let expected = Example {
        model: "a".into(),
        learning_rate: 1e-2,
        max_length: 256,
        schedule: Schedule::Cosine,
        target_modules: vec!["q_proj".into(), "v_proj".into()],
        packing: false,
        early_stopping: None,
    };
    assert_eq!(example, expected);
}

#[test]
fn the_last_of_several_sets_counts() {
    let example = merged(&["--model=a"], "", &["max_length=1", "max-length=2"]).unwrap();
    assert_eq!(example.max_length, 2);
}

#[test]
fn a_typed_default_counts_over_the_file() {
    let example = merged(&["--model=a", "--max-length=512"], "max_length = 64", &[]).unwrap();
    assert_eq!(example.max_length, 512);
}

#[test]
fn lists_come_as_arrays_and_as_text() {
    let lists: [(&[&str], &str, &[&str]); 4] = [
        (&["--target-modules=k_proj,o_proj"], "", &[]),
        (&[], "target_modules = [\"k_proj\", \"o_proj\"]", &[]),
        (&[], "target_modules = \"k_proj,o_proj\"", &[]),
        (&[], "", &["target_modules=[\"k_proj\", \"o_proj\"]"]),
    ];
    for (typed, file, sets) in lists {
        let sets: Vec<&str> = ["model=m"].iter().chain(sets).copied().collect();
        assert_eq!(merged(typed, file, &sets).unwrap().target_modules, ["k_proj", "o_proj"]);
    }
    // Within an array a comma is a part of the item: patterns have commas.
    let pattern = merged(&["--model=a"], "target_modules = [\"a{1,2}\"]", &[]).unwrap();
    assert_eq!(pattern.target_modules, ["a{1,2}"]);
}

#[test]
fn a_switch_is_set_by_every_layer() {
    let packing = |typed, file, sets: &[&str]| merged(typed, file, sets).unwrap().packing;
    assert!(packing(&["--model=a", "--packing"], "packing = false", &[]));
    assert!(packing(&["--model=a"], "packing = true", &[]));
    assert!(packing(&["--model=a"], "", &["packing=true"]));
    assert!(!packing(&["--model=a"], "packing = true", &["packing=false"]));
}

#[test]
fn a_table_of_the_stage_counts_over_the_top_of_the_file() {
    let file = "max_length = 1\n[data_clean]\nanything = 1\n[train_sft]\nmax_length = 2\nmodel = \"a\"\n";
    let example = merged(&[], file, &[]).unwrap();
    assert_eq!((example.max_length, example.model), (2, PathBuf::from("a")));
}

#[test]
fn a_file_for_other_stages_is_refused() {
    let error = read_text("[data_clean]\nmax_length = 2\n").unwrap_err();
    assert!(error.to_string().ends_with("has nothing for this command"), "{error}");
    assert_eq!(error.help().unwrap().to_string(), "write its settings under `[train_sft]`");
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let (text, help) = message(merged(&["--model=a"], "\n\nlearning_rte = 1e-3", &[]));
    assert_eq!(text, "run.toml:3: `learning_rte` is not a setting of this command");
    assert!(
        help.starts_with("did you mean `learning_rate`? known are: model, learning_rate, max_length"),
        "{help}"
    );
    let (text, _) = message(merged(&["--model=a"], "", &["colour=red"]));
    assert_eq!(text, "--set: `colour` is not a setting of this command");
    let error = read_text("[train_stf]\nmax_length = 2\n").unwrap_err();
    assert!(error.help().unwrap().to_string().starts_with("did you mean `train_sft`? "));
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    for (file, place, name, other) in [
        ("max-length = 1\nseed = 1\nmax_length = 2", 3, "max_length", 1),
        ("[train-sft]\nmax_length = 2\n[train_sft]\nmodel = \"a\"", 3, "train_sft", 1),
        ("[train_sft]\nmax_length = 2\nmax-length = 3", 3, "max_length", 2),
    ] {
        let text = read_text(file).unwrap_err().to_string();
        let lines: Vec<usize> = (1..9).filter(|line| text.contains(&format!(":{line}"))).collect();
        let mut expected = [place, other];
        expected.sort_unstable();
        assert!(lines == expected && text.contains(&format!("`{name}` stands at ")), "{text}");
    }
}

#[test]
fn wrong_values_are_refused_with_what_was_expected() {
    let refusals = [
        ("learning_rate = \"fast\"", "`learning_rate` must be a number, not the text \"fast\""),
        ("learning_rate = true", "`learning_rate` must be a number, not true"),
        ("max_length = 1.5", "`max_length` must be a whole number from 0 on, not the number 1.5"),
        ("max_length = -1", "`max_length` must be a whole number from 0 on, not the number -1"),
        ("max_length = [1, 2]", "`max_length` must be a whole number from 0 on, not the list [1, 2]"),
        ("model = 7", "`model` must be text in quotes, not the number 7"),
        ("schedule = \"sine\"", "`schedule` must be one of linear, cosine, not the text \"sine\""),
        ("packing = 1", "`packing` must be true or false, not the number 1"),
        ("packing = \"yes\"", "`packing` must be true or false, not the text \"yes\""),
        (
            "target_modules = [1]",
            "`target_modules` must be text in quotes, or a list of such, not the list [1]",
        ),
        ("target_modules = []", "`target_modules` is an empty list"),
        (
            "early_stopping = 1979-05-27",
            "`early_stopping` must be a whole number from 0 on, not the time 1979-05-27",
        ),
    ];
    for (file, expected) in refusals {
        let sets: &[&str] = if file.starts_with("model") { &[] } else { &["model=a"] };
        assert_eq!(message(merged(&[], file, sets)).0, format!("run.toml:1: {expected}"));
    }
    let (text, _) = message(merged(&[], "", &["model=a", "max_length=long"]));
    assert_eq!(text, "--set: `max_length` must be a whole number from 0 on, not the text \"long\"");
}

#[test]
fn what_is_required_may_come_from_any_layer_but_must_come() {
    assert_eq!(merged(&[], "model = \"a\"", &[]).unwrap().model, PathBuf::from("a"));
    assert_eq!(merged(&[], "", &["model=a"]).unwrap().model, PathBuf::from("a"));
    let (text, help) = message(merged(&[], "max_length = 2", &[]));
    assert_eq!(text, "--model <MODEL> must be given");
    assert!(help.contains("--config"), "{help}");
}

#[test]
fn rules_between_settings_hold_for_files_too() {
    let (text, _) = message(merged(&["--model=a", "--packing"], "early_stopping = 3", &[]));
    assert!(text.contains("cannot be used with"), "{text}");
}

#[test]
fn a_set_without_a_value_and_a_file_that_is_not_toml_are_refused() {
    assert_eq!(message(merged(&[], "", &["seed"])).0, "--set seed: there is no `=` in it");
    let error = read_text("learning_rate = = 1\n").unwrap_err();
    assert!(
        matches!(error, Error::NotToml { ref source, .. } if source.to_string().contains("line 1")),
        "{error:?}"
    );
}
