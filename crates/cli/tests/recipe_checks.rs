//! What a recipe is asked before its first step runs, and what `--set` changes in it.

use crate::support::recipe::{SMALL, each, refused, room, run};
use serde_json::Value;

/// Two steps that need no model.
const ROWS: &str = "seed = 7\n[data_clean]\ninputs = [\"rows.jsonl\"]\n\
                    [data_sft]\ninputs = [\"{data_clean}/cleaned_data.json\"]\nseed = 42\n";

#[test]
fn what_a_late_step_reads_is_missed_before_the_first_one_runs() {
    for set in [
        "loss_after.dataset=gone.jsonl",
        "loss_after.model_name_or_path=gone",
        "train_sft.eval_dataset=gone.jsonl",
    ] {
        let room = room(SMALL);
        let step = set.split_once('.').unwrap().0;
        let said = refused(&room, &format!("--set {set}"));
        assert!(
            said.contains(&format!("the step `{step}` cannot be run")) && said.contains("cannot read gone"),
            "{said}"
        );
        assert!(!room.path("runs").exists(), "{set}");
        let said = room.run(&format!("run small.toml --json --dry_run --set {set}"));
        let found: Value = serde_json::from_str(&said.stdout).unwrap();
        let would = each(&found, "would");
        assert_eq!((said.code, would[0]), (Some(1), &"run".into()));
        let fails: Vec<_> =
            each(&found, "step").into_iter().zip(would).filter(|(_, would)| *would == "fail").collect();
        assert_eq!(fails, [(&step.into(), &"fail".into())]);
    }
}

#[test]
fn a_folder_that_a_late_step_cannot_fill_is_seen_before_the_first_one_runs() {
    let room = room(SMALL);
    room.write("runs/small/loss_after/notes.txt", "mine");
    let said = refused(&room, "");
    assert!(
        said.contains("the step `loss_after` cannot be run") && said.contains("such as notes.txt"),
        "{said}"
    );
    assert!(!room.path("runs/small/data_clean").exists());
    let said = room.run("run small.toml --dry_run");
    assert!(said.code == Some(1) && said.stderr.contains("`loss_after` would fail"), "{}", said.stderr);
}

#[test]
fn set_counts_over_the_tables_of_all_steps_that_know_it() {
    let room = room(ROWS);
    let seeds = |words: &str| {
        run(&room, words);
        ["data_clean", "data_sft"].map(|step| {
            let manifest = room.read(&format!("runs/small/{step}/manifest.json"));
            serde_json::from_str::<Value>(&manifest).unwrap()["seed"].as_u64().unwrap()
        })
    };
    assert_eq!(seeds(""), [7, 42]);
    assert_eq!(seeds("--set seed=9"), [9, 9]);
    assert_eq!(seeds("--set data_sft.seed=10 --set seed=9"), [9, 10]);
    assert_eq!(run(&room, "--set output_dir=other")["output"], "other");
}

#[test]
fn set_is_refused_where_it_changes_nothing() {
    let recipe = "[ask]\ncommand = \"generate\"\nprompt = \"a\"\nmodel_name_or_path = \"m\"\n\
                  base_url = \"http://localhost:9/v1\"\n";
    insta::assert_snapshot!(refused(&room(recipe), "--set dtype=bfloat16"));
}

#[test]
fn a_step_on_and_every_step_cannot_both_be_asked_for() {
    let room = room(ROWS);
    run(&room, "");
    let said = refused(&room, "--from data_sft --force");
    assert_eq!(refused(&room, "--from data_sft --force --dry_run"), said);
    insta::assert_snapshot!(said);
    assert!(!room.path("runs/small/data_sft~1").exists());
}

#[test]
fn a_step_does_not_read_standard_input() {
    let recipe = "[ask]\ncommand = \"generate\"\nprompts = \"-\"\nmodel_name_or_path = \"MODEL\"\n";
    insta::assert_snapshot!(refused(&room(recipe), "--dry_run"));
}

#[test]
fn a_recipe_whose_steps_stand_elsewhere_comes_to_its_end() {
    let room = room("[data_clean]\ninputs = [\"rows.jsonl\"]\noutput_dir = \"elsewhere\"\n");
    let found = run(&room, "");
    assert_eq!(each(&found, "reused"), [false]);
    assert!(room.path("elsewhere/DONE").exists());
}
