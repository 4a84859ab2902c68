//! `demo` where its files cannot be fetched.

mod support;

use support::Room;

#[test]
fn without_python_a_person_reads_what_to_type() {
    let room = Room::new();
    let said = room.run_with("demo --python no-such-python", &[("COLLIMATE_CACHE", "cache")]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
    insta::assert_snapshot!(said.stderr);
    assert!(!room.path("demo").exists());
}

#[test]
fn what_is_set_is_looked_at_before_anything_is_fetched() {
    let room = Room::new();
    let words = "demo --python no-such-python --set";
    let said = room.run_with(&format!("{words} data_clean.sede=1"), &[("COLLIMATE_CACHE", "cache")]);
    assert!(said.code == Some(1) && said.stderr.contains("`sede` is not a setting"), "{}", said.stderr);
    // A cache may be called as it likes: what looks like a reference there is none.
    let said = room.run_with(&format!("{words} data_clean.seed=1"), &[("COLLIMATE_CACHE", "{cache}")]);
    assert!(said.stderr.contains("cannot start no-such-python"), "{}", said.stderr);
}
