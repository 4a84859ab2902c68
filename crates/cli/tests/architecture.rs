//! ARCHITECTURE.md says what is there: the edges between the crates, and one line for every file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// Crate name without the project's prefix; the binary is `cli`.
fn short(name: &str) -> String {
    match name.strip_prefix("collimate") {
        Some("") => "cli".to_owned(),
        Some(rest) => rest.trim_start_matches('-').to_owned(),
        None => name.to_owned(),
    }
}

/// The crates of the workspace and the others that each uses, as Cargo sees them.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let ours = dependencies.iter().filter(|d| d["kind"].is_null() && d["path"].is_string());
            let uses = ours.map(|d| short(d["name"].as_str().unwrap())).collect();
            (short(package["name"].as_str().unwrap()), uses)
        })
        .collect()
}

#[test]
fn the_table_of_rooms_shows_the_edges_that_cargo_sees() {
    let text = architecture();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let stated: BTreeMap<String, BTreeSet<String>> = rows
        .map(|(name, rest)| {
            let uses = rest.split(" | ").nth(1).unwrap_or_default();
            let uses = uses.split(", ").map(str::trim).filter(|name| !["–", ""].contains(name));
            (name.to_owned(), uses.map(str::to_owned).collect())
        })
        .collect();
    assert_eq!(stated, edges());
}

/// Every source file with the first sentence of its documentation.
fn files() -> String {
    let mut paths = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                if relative.contains("/src/") {
                    paths.push(relative);
                }
            }
        }
    }
    paths.sort();
    let mut list = String::new();
    let mut last = String::new();
    for path in paths {
        let (room, file) = path.trim_start_matches("crates/").split_once("/src/").unwrap();
        if room != last {
            list += &format!("\n### {room}\n");
            last = room.to_owned();
        }
        list += &format!("- `{file}`: {}\n", first_sentence(&root().join(&path)));
    }
    list
}

/// The first sentence of a file's documentation, on one line.
fn first_sentence(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<_> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let end = paragraph.find(". ").map_or(paragraph.len(), |at| at + 1);
    assert!(end > 0, "{} does not say what it holds: begin it with //!", path.display());
    paragraph[..end].trim_end_matches('.').to_owned()
}

#[test]
fn every_file_has_its_line() {
    let text = architecture();
    let (page, listed) =
        text.split_once("<!-- files -->\n").expect("ARCHITECTURE.md has lost its list of files");
    let expected = files();
    if listed != expected {
        // The list is made from the files' own first lines; a copy to paste lies in the target folder.
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("files.md");
        let whole = format!("{page}<!-- files -->\n{expected}");
        std::io::Write::write_all(&mut fs::File::create(&copy).unwrap(), whole.as_bytes()).unwrap();
        panic!("the list of files is out of date; copy {} over ARCHITECTURE.md", copy.display());
    }
}

#[test]
fn every_file_of_tests_is_in_its_suite() {
    for room in fs::read_dir(root().join("crates")).unwrap() {
        let folder = room.unwrap().path();
        if !folder.join("tests").exists() {
            continue;
        }
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let suite = fs::read_to_string(folder.join("tests/suite.rs")).unwrap();
        for file in fs::read_dir(folder.join("tests")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("suite.rs") {
                continue;
            }
            let name = path.file_stem().unwrap().to_str().unwrap();
            let listed = suite.lines().any(|line| line == format!("mod {name};"));
            let alone = manifest.contains(&format!("name = \"{name}\""));
            assert!(listed != alone, "{} must be in its suite, or a test of its own", path.display());
        }
    }
}
