//! `report`: one page of what commands did.

use crate::support::{INSTRUCTIONS, Room};
use serde_json::Value;

#[test]
fn a_run_is_shown_on_one_page() {
    let room = Room::new();
    room.write("rows.json", INSTRUCTIONS);
    room.run("data clean rows.json --output_dir demo/cleaned");
    room.run("data sft demo/cleaned/cleaned_data.json --output_dir demo/sft --test_size 0.3");
    let said = room.run("report demo");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let place = "stands in demo/report.html\n";
    assert_eq!(said.stdout, format!("A report of 2 stages, to be opened in a browser, {place}"));
    let page = room.read("demo/report.html");
    let (cleaned, sft) = (page.find("folder <code>cleaned</code>"), page.find("folder <code>sft</code>"));
    assert!(cleaned.is_some() && cleaned < sft, "{cleaned:?} {sft:?}");

    let said = room.run("report demo/sft --output sft.html --json");
    let summary: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&summary["report"], &summary["stages"]), (&"sft.html".into(), &1.into()));
    assert!(room.read("sft.html").starts_with("<!DOCTYPE html>"));
}

#[test]
fn a_report_changes_nothing_for_the_stages() {
    let room = Room::new();
    room.write("rows.json", INSTRUCTIONS);
    room.run("data clean rows.json --output_dir cleaned");
    room.run("report cleaned");
    let said = room.run("data clean rows.json --output_dir cleaned");
    assert_eq!(said.stderr, "cleaned is finished and nothing changed; --force would run it again\n");
}

#[test]
fn a_folder_without_stages_is_refused() {
    let room = Room::new();
    room.write("rows.json", INSTRUCTIONS);
    let said = room.run("report .");
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("no stage has worked in ."), "{}", said.stderr);
    assert!(said.stderr.contains("name the output folder of a stage"), "{}", said.stderr);
}
