//! `data rejected` as a person meets it.

use crate::support::{Room, tiny};

#[test]
fn pairs_are_made_from_the_rows_of_data_sft() {
    let room = Room::new();
    let row = |n: usize| format!(r#"{{"instruction": "Double {n}.", "output": "{} is twice {n}."}}"#, 2 * n);
    room.write("rows.jsonl", &(0..20).map(row).collect::<Vec<_>>().join("\n"));
    assert_eq!(room.run("data sft rows.jsonl --output_dir sft").code, Some(0));
    let words = "data rejected --dataset sft/sft_train.jsonl --output_dir prefs --max_new_tokens 6";
    let said = room.run(&format!("{words} --model_name_or_path {}", tiny().display()));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let note = "there are fewer rows than are wanted: 17 are drawn for training, 1 for validation";
    assert!(said.stderr.contains(note), "{}", said.stderr);
    assert!(said.stdout.contains("pairs for training"), "{}", said.stdout);
    assert_eq!(room.read("prefs/prefs_train.jsonl").lines().count(), 17);
    assert_eq!(room.read("prefs/prefs_val.jsonl").lines().count(), 1);
}

#[test]
fn help_states_the_defaults_of_the_method() {
    let said = Room::new().run("data rejected --help");
    assert_eq!(said.code, Some(0));
    for default in ["--max_new_tokens <TOKENS>", "--top_p <SHARE>"] {
        assert!(said.stdout.contains(default), "{}", said.stdout);
    }
    assert!(
        said.stdout.contains("[default: 80]") && said.stdout.contains("[default: 0.9]"),
        "{}",
        said.stdout
    );
}

#[test]
fn what_is_wrong_is_said_with_the_next_step() {
    let room = Room::new();
    room.write("rows.jsonl", "{\"question\": \"Boil?\"}");
    let words = "data rejected --dataset rows.jsonl --output_dir prefs";
    let said = room.run(&format!("{words} --model_name_or_path {}", tiny().display()));
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}
