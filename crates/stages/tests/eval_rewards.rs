//! `eval rewards`: rules, programs and judges over files of all forms; the files, bad rows, groups of one prompt.

use crate::common;
use std::sync::atomic::AtomicBool;

use crate::common::judge::Room;
use crate::common::{config, run};
use collimate_run::{INTERRUPTED, RunOptions, Silent, Stage, atomic, run_stage};
use collimate_stages::Error;
use collimate_stages::eval_rewards::{EvalRewards, Summary};
use miette::Diagnostic;
use serde_json::{Value, json};

fn stage(room: &Room, output: &str, words: &[&str]) -> EvalRewards {
    let mut paths = room.flags(&[("dataset", "prompts.jsonl"), ("output_dir", output)]);
    let loads = |word: &&str| ["=model:", "=judge"].iter().any(|kind| word.contains(kind));
    // Without a reward that a model gives, the model is not heeded.
    paths.retain(|path| words.iter().any(loads) || !path.starts_with("--model_name_or_path"));
    let words = words.iter().copied().chain(paths.iter().map(String::as_str));
    EvalRewards::new(config(&words.collect::<Vec<_>>()), Some(2))
}

fn measure(room: &Room, words: &[&str]) -> Result<Summary, Error> {
    Ok(run(&stage(room, "out", words))?.summary)
}

fn answers() -> Vec<Value> {
    vec![
        json!({ "prompt": "1 + 1 = ?", "completion": "#### 2", "answer": "2" }),
        json!({ "prompt": "2 + 2 = ?", "gen": "#### 4.0", "answer": 4, "sample": 0 }),
        json!({ "prompt": "2 + 2 = ?", "gen": "Five", "answer": 4, "sample": 1 }),
        json!({ "prompt": [{ "role": "user", "content": "3 + 3 = ?" }], "answer": "6",
            "chosen": [{ "role": "assistant", "content": "\\boxed{6}" }],
            "rejected": [{ "role": "assistant", "content": "\\boxed{7}" }] }),
    ]
}

#[test]
fn every_completion_gets_each_reward_and_their_sum() {
    let room = Room::new(answers());
    let words = [
        "--reward_funcs=exact",
        "--reward_funcs=numeric",
        "--reward_funcs=regex:^#",
        "--reward_weights=1,2,-1",
    ];
    let summary = measure(&room, &words).unwrap();
    let row = |row: u64, column: &str, marks: [f64; 3], reward: f64| {
        json!({ "row": row, "column": column, "rewards": { "exact": marks[0], "numeric": marks[1], "regex": marks[2] },
            "reward": reward })
    };
    let mut expected = [
        row(1, "completion", [1.0, 1.0, 1.0], 2.0),
        row(2, "gen", [0.0, 1.0, 1.0], 1.0),
        row(3, "gen", [0.0, 0.0, 0.0], 0.0),
        row(4, "chosen", [1.0, 1.0, 0.0], 3.0),
        row(4, "rejected", [0.0, 0.0, 0.0], 0.0),
    ];
    (expected[1]["sample"], expected[2]["sample"]) = (json!(0), json!(1));
    assert_eq!(room.rows("out/rewards.jsonl"), expected);
    assert_eq!((summary.prompts, summary.completions, summary.rejected), (3, 5, 0));
    assert_eq!(summary.reward.mean.value, 1.2);
    let names: Vec<&str> = summary.rewards.iter().map(|figures| figures.name.as_str()).collect();
    assert_eq!(names, ["exact", "numeric", "regex"]);
    let exact = &summary.rewards[0];
    assert_eq!((exact.mean.value, exact.min, exact.max), (0.4, 0.0, 1.0));
    assert_eq!(summary.chosen_higher.unwrap().value, 1.0);
    let kept: Summary = serde_json::from_slice(&room.bytes("out/eval_rewards.json")).unwrap();
    assert_eq!(kept, summary);
    // Nothing is done twice, and done again it is the same.
    assert!(run(&stage(&room, "out", &words)).unwrap().reused);
    run(&stage(&room, "again", &words)).unwrap();
    assert_eq!(room.bytes("out/rewards.jsonl"), room.bytes("again/rewards.jsonl"));
}

#[test]
fn bad_rows_are_set_aside_and_a_reward_that_fails_is_not() {
    let bad = [
        json!({ "completion": "a" }),
        json!({ "prompt": "?", "chosen": "a" }),
        json!({ "prompt": "?", "completion": 3 }),
        json!({ "prompt": "?", "completion": [{ "role": "assistant", "content": null }] }),
    ];
    let room = Room::new(bad.into_iter().chain(answers()));
    let summary = measure(&room, &["--reward_funcs=exact"]).unwrap();
    assert_eq!((summary.completions, summary.rejected), (5, 4));
    let reasons: Vec<String> =
        room.rows("out/rejects.jsonl").iter().map(|row| row["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        reasons,
        [
            "`prompt` is missing",
            "it has no completion, no gen, and no pair of chosen and rejected",
            "`completion` must be a list of messages, and is a number",
            "the last message of `completion` has no text",
        ]
    );
    let failed = measure(&room, &["--reward_funcs=exact", "--strict"]).unwrap_err();
    assert!(failed.to_string().contains("`prompt` is missing"), "{failed}");
    let room = Room::new(answers().into_iter().chain([json!({ "prompt": "?", "completion": "#### 1" })]));
    let failed = measure(&room, &["--reward_funcs=exact"]).unwrap_err();
    assert_eq!(failed.to_string(), "the reward exact cannot be given for row 5: it has no column answer");
    let failed = measure(&Room::new([json!({})]), &["--reward_funcs=exact"]).unwrap_err();
    assert!(failed.to_string().contains("all 1 rows are bad"), "{failed}");
}

#[cfg(unix)]
#[test]
fn a_program_is_an_input_and_gets_whole_files_in_windows() {
    let rows =
        (0..700).map(|number| json!({ "prompt": format!("{number}"), "completion": format!("c{number}") }));
    let room = Room::new(rows);
    let script = room.path("reward.sh");
    let text = "sed -u 's/.*\"completion\":\"c\\([0-9]*\\)\".*/{\"reward\": \\1}/'";
    atomic::write(&script, text.as_bytes()).unwrap();
    let reward = format!("--reward_funcs=program:sh {}", script.display());
    let summary = measure(&room, &[&reward]).unwrap();
    assert_eq!((summary.completions, summary.reward.mean.value), (700, 349.5));
    assert_eq!(room.rows("out/rewards.jsonl")[699]["rewards"], json!({ "program": 699.0 }));
    assert!(run(&stage(&room, "out", &[&reward])).unwrap().reused);
    // The same command with another program in the file is another run.
    atomic::write(&script, format!("{text}\n# v2\n").as_bytes()).unwrap();
    assert!(!run(&stage(&room, "out", &[&reward])).unwrap().reused);
}

#[test]
fn a_judge_compares_the_samples_of_a_prompt() {
    let room = Room::new(answers().split_off(1));
    let judge = format!("--reward_funcs=judge:{}", room.path("model").display());
    let summary = measure(&room, &[&judge, "--judge_max_new_tokens=60"]).unwrap();
    let rows = room.rows("out/rewards.jsonl");
    let marks: Vec<f64> = rows.iter().map(|row| row["reward"].as_f64().unwrap()).collect();
    // Of two completions what one wins the other loses, though the samples of the first prompt are two rows.
    assert_eq!((marks[0] + marks[1], marks[2] + marks[3], summary.reward.mean.value), (1.0, 1.0, 0.5));
    assert_eq!((rows[0]["row"].as_u64(), rows[1]["row"].as_u64()), (Some(1), Some(2)));
    // One alone has no other to be held against.
    let failed = measure(&Room::new(answers()), &[&judge]).unwrap_err();
    assert!(failed.to_string().starts_with("the reward judge cannot be given for row 1: "), "{failed}");
}

#[test]
fn a_judge_with_an_adapter_scores() {
    let room = Room::new(answers());
    let settings = |reward: &str| -> Vec<String> {
        vec![format!("--reward_funcs={reward}"), "--judge_max_new_tokens=80".to_owned()]
    };
    let measured = |reward: &str| {
        let words = settings(reward);
        measure(&room, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let adapter = format!("judge_score:{}", room.adapter());
    let summary = measured(&adapter).unwrap();
    assert!(summary.reward.min >= 0.1 && summary.reward.max <= 1.0, "{summary:?}");
    // Paths are inputs, not settings.
    let words = settings(&adapter);
    let stage = stage(&room, "out", &words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(stage.settings()["reward_funcs"], json!(["judge_score:"]));
    assert!(stage.inputs().contains(&room.adapter().into()));
}

#[test]
fn a_run_that_was_stopped_ends_with_the_same_bytes() {
    let room = Room::new(answers());
    let stopped = AtomicBool::new(true);
    let options = RunOptions::new(&Silent, &stopped);
    let words = ["--reward_funcs=exact"];
    let failed = run_stage(&stage(&room, "out", &words), &options).unwrap_err();
    assert_eq!(failed.code().map(|code| code.to_string()).as_deref(), Some(INTERRUPTED));
    assert!(!room.path("out/rewards.jsonl").exists());
    assert!(!run(&stage(&room, "out", &words)).unwrap().reused);
    run(&stage(&room, "again", &words)).unwrap();
    assert_eq!(room.bytes("out/rewards.jsonl"), room.bytes("again/rewards.jsonl"));
}

#[test]
fn an_adapter_without_its_model_says_so() {
    let room = Room::new(answers());
    let words = [format!("--reward_funcs=judge:{}", room.adapter())];
    let paths = [("dataset", "prompts.jsonl"), ("output_dir", "out")];
    let paths = paths.map(|(name, path)| format!("--{name}={}", room.path(path).display()));
    let words: Vec<&str> = words.iter().chain(&paths).map(String::as_str).collect();
    let failed = run(&EvalRewards::new(config(&words), None)).unwrap_err();
    assert!(matches!(failed, Error::BaseModelMissing { .. }), "{failed:?}");
}

#[test]
fn a_reward_model_reads_what_the_model_read_and_pairs_as_training_does() {
    let message = |role: &str, text: &str| json!({ "role": role, "content": text });
    let framed = "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n";
    let asked = json!([message("user", "Add.\n\n1 2")]);
    let parted = |format: &str| {
        json!({ "prompt": "Add.\n\n1 2", "gen": "3", "prompt_format": format,
        "instruction": "Add.", "input": "1 2" })
    };
    let rows = [
        parted("instruction"),
        json!({ "prompt": framed, "completion": "3" }),
        parted("chat"),
        json!({ "prompt": asked, "completion": "3" }),
        parted("plain"),
        json!({ "prompt": "Add.\n\n1 2", "completion": "3" }),
        json!({ "instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "4" }),
        json!({ "prompt": "Add.", "chosen": [asked[0], message("assistant", "3")],
            "rejected": [asked[0], message("assistant", "4")] }),
        json!({ "prompt": "Add.", "gen": "3", "prompt_format": "loud" }),
    ];
    let room = Room::new(rows);
    let adapter = common::fixtures().join("reward/adapter");
    let summary = measure(&room, &[&format!("--reward_funcs=model:{}", adapter.display())]).unwrap();
    assert_eq!((summary.completions, summary.rejected), (10, 1));
    let found: Vec<f64> =
        room.rows("out/rewards.jsonl").iter().map(|row| row["reward"].as_f64().unwrap()).collect();
    assert_eq!((found[0], found[2], found[4]), (found[1], found[3], found[5]));
    assert!(found[0] != found[2] && found[2] != found[4] && found[0] != found[4], "{found:?}");
    assert_eq!((found[6], found[8]), (found[0], found[2]));
}

#[test]
fn a_reward_model_is_an_adapter_on_the_model() {
    let room = Room::new(answers());
    let adapter = common::fixtures().join("reward/adapter");
    let reward = format!("--reward_funcs=model:{}", adapter.display());
    let summary = measure(&room, &[&reward]).unwrap();
    assert_eq!((summary.completions, summary.rewards[0].name.as_str()), (5, "model"));
    assert!(summary.reward.min < summary.reward.max, "{summary:?}");
}

#[test]
fn a_reward_model_may_be_held_quantised() {
    let room = Room::new(answers());
    let reward = format!("--reward_funcs=model:{}", common::fixtures().join("reward/adapter").display());
    let mean = |more: &[&str]| {
        let mean = measure(&room, &[&[reward.as_str()], more].concat()).unwrap().reward.mean.value;
        std::fs::remove_dir_all(room.path("out")).unwrap();
        mean
    };
    let (whole, quantised) = (mean(&[]), mean(&["--reward_quantise=int8"]));
    assert!(whole != quantised && (whole - quantised).abs() < 0.1, "{whole} {quantised}");
    let twice = measure(&room, &[&reward, "--reward_quantise=nf4", "--reward_dtype=int8"]).unwrap_err();
    assert!(twice.to_string().contains("nf4"), "{twice}");
}

#[test]
fn a_model_of_the_wrong_kind_is_refused_before_any_row() {
    let room = Room::new([json!({})]);
    let writer = format!("model:{}", room.path("model").display());
    let scorer = format!("judge_score:{}", common::fixtures().join("reward/adapter").display());
    for (spec, reason) in [(writer, "no scalar head"), (scorer, "a reward model")] {
        let failed = measure(&room, &[&format!("--reward_funcs={spec}")]).unwrap_err().to_string();
        assert!(failed.contains(&spec) && failed.contains(reason), "{failed}");
    }
}

#[test]
fn settings_tell_lists_apart_and_keep_no_command() {
    let room = Room::new(answers());
    let kept = |words: &[&str]| stage(&room, "out", words).settings();
    let schemas = [["json:a.json", "json"], ["json", "json:a.json"]];
    let [one, other] = schemas
        .map(|list| kept(&list.map(|spec| format!("--reward_funcs={spec}")).each_ref().map(String::as_str)));
    assert_ne!(one, other);
    let program = "--reward_funcs=program:scorer --key abc";
    let patient = kept(&[program, "--reward_timeout=600"]);
    assert_eq!(patient, kept(&[program]));
    assert!(!patient.to_string().contains("abc"), "{patient}");
}

#[test]
fn the_base_that_an_adapter_names_is_an_input() {
    let room = Room::new(answers());
    let (folder, model) = (room.path("adapter"), room.path("model"));
    let config =
        json!({ "base_model_name_or_path": model, "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"] });
    std::fs::create_dir_all(&folder).unwrap();
    atomic::write(folder.join("adapter_config.json"), config.to_string().as_bytes()).unwrap();
    let inputs = stage(&room, "out", &[&format!("--reward_funcs=model:{}", folder.display())]).inputs();
    assert!(inputs.contains(&folder) && inputs.contains(&model), "{inputs:?}");
}

#[test]
fn what_no_reward_heeds_is_refused_by_name() {
    let room = Room::new(answers());
    let model = format!("--model_name_or_path={}", room.path("model").display());
    for (word, shown) in [
        ("--judge_base_url=http://127.0.0.1:1", "a list without a judge, which heeds no judge_base_url"),
        ("--judge_max_new_tokens=7", "a list without a judge, which heeds no judge_max_new_tokens"),
        ("--reward_timeout=7", "a list without a program, which heeds no reward_timeout"),
        ("--reward_dtype=int8", "a list without a model to be loaded, which heeds no reward_dtype"),
        ("--reward_quantise=nf4", "a list without a model to be loaded, which heeds no reward_quantise"),
        (model.as_str(), "a list without a model to be loaded, which heeds no model_name_or_path"),
    ] {
        let failed = measure(&room, &["--reward_funcs=exact", word]).unwrap_err();
        assert_eq!(failed.to_string(), format!("reward_funcs is {shown}"));
    }
    assert!(measure(&room, &["--reward_funcs=exact", "--reward_timeout=60"]).is_ok());
}
