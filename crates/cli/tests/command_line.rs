//! What a person reads who mistypes, forgets, or asks.

use crate::support::{INSTRUCTIONS, Room};

#[test]
fn an_unknown_flag_is_refused_with_the_nearest() {
    let said = Room::new().run("train sft --learning_rat 1e-4");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}

#[test]
fn an_unknown_command_is_refused_with_the_nearest() {
    let said = Room::new().run("data cleen");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}

#[test]
fn an_unknown_setting_in_the_file_is_refused_with_the_nearest() {
    let room = Room::new();
    room.write("run.toml", "seed = 1\n\n[train_sft]\nmax_step = 3\n");
    let said = room.run("train sft --config run.toml");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    let room = Room::new();
    room.write("run.toml", "learning_rate = \"fast\"\n");
    let said = room.run("train sft --config run.toml");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!("wrong_type_in_the_file", said.stderr);
    let said = room.run("train sft --set max_length=long");
    insta::assert_snapshot!("wrong_type_in_set", said.stderr);
    let said = room.run("train sft --max_length long");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!("wrong_type_in_a_flag", said.stderr);
}

#[test]
fn a_type_that_cannot_be_trained_in_is_refused_with_those_that_can() {
    let said = Room::new().run("train sft --model_name_or_path m --dataset d --dtype int8");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("int8 cannot be trained in; take float32 or bfloat16"), "{}", said.stderr);
}

#[test]
fn a_required_setting_must_come_from_somewhere() {
    let room = Room::new();
    let said = room.run("train sft --set model_name_or_path=m");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}

#[test]
fn a_config_file_that_is_not_there_or_not_toml_is_named() {
    let room = Room::new();
    let said = room.run("data clean --config absent.toml");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("cannot read absent.toml"), "{}", said.stderr);
    room.write("run.toml", "seed = 1\nstrict = = true\n");
    let said = room.run("data clean --config run.toml");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}

#[test]
fn help_teaches() {
    let room = Room::new();
    let said = room.run("--help");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    for command in ["data", "train", "eval"] {
        assert!(said.stdout.contains(command), "{}", said.stdout);
    }
    let said = room.run("data clean --help");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(said.stdout);
}

#[test]
fn every_command_has_a_description_and_examples() {
    let room = Room::new();
    for command in [
        "run",
        "init",
        "data clean",
        "data sft",
        "data rejected",
        "train sft",
        "generate",
        "chat",
        "eval loss",
    ] {
        let said = room.run(&format!("{command} --help"));
        assert_eq!(said.code, Some(0), "{command}");
        let first = said.stdout.lines().next().unwrap_or_default().to_owned();
        assert!(first.len() > 20 && !first.starts_with("Usage"), "{command}: {first}");
        assert!(said.stdout.contains(&format!("Examples:\n  collimate {command} ")), "{command}");
    }
}

#[test]
fn flags_may_be_spelled_both_ways() {
    let room = Room::new();
    room.write("rows.json", INSTRUCTIONS);
    assert_eq!(room.run("data clean rows.json --output-dir a").code, Some(0));
    assert_eq!(room.run("data clean rows.json --output_dir b").code, Some(0));
    assert_eq!(room.read("a/cleaned_data.json"), room.read("b/cleaned_data.json"));
}
