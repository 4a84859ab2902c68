//! Files appear whole or not at all.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use collimate_run::{Error, atomic};
use miette::Diagnostic;

fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn replaces_an_older_file_at_commit_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    atomic::write(&path, b"old").unwrap();
    let mut file = atomic::writer(&path).unwrap();
    file.write_all(b"new").unwrap();
    file.flush().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names_in(folder.path()), ["rows.jsonl"]);
}

#[test]
fn dropped_without_commit_it_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = atomic::writer(folder.path().join("rows.jsonl")).unwrap();
    file.write_all(b"half").unwrap();
    drop(file);
    assert!(names_in(folder.path()).is_empty());
}

#[test]
#[cfg(unix)]
fn others_may_read_what_is_written() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    atomic::write(&ours, b"x").unwrap();
    fs::File::create(&plain).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[test]
fn a_missing_folder_is_named_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent").join("rows.jsonl");
    let error = atomic::write(&path, b"x").unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
    assert_eq!(error.help().unwrap().to_string(), "make the folder in which it is to stand");
    let Error::Write { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::NotFound);
    assert!(!source.to_string().contains(".part"), "{source}");
}

#[test]
fn a_folder_below_a_file_is_not_writable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    atomic::write(&file, b"x").unwrap();
    let error = atomic::write(file.join("rows.jsonl"), b"x").unwrap_err();
    assert!(error.help().unwrap().to_string().contains("name another output"), "{error:?}");
    let error = atomic::write(folder.path(), b"x").unwrap_err();
    assert!(matches!(error, Error::Write { ref source, .. } if source.kind() == ErrorKind::IsADirectory));
}

#[test]
fn a_full_disk_says_so() {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: this system has no /dev/full");
        return;
    }
    let error = atomic::write("/dev/full", b"x").unwrap_err();
    assert!(
        matches!(error, Error::Write { ref source, .. } if source.kind() == ErrorKind::StorageFull),
        "{error:?}"
    );
    assert!(error.help().unwrap().to_string().contains("free some space"));
}
