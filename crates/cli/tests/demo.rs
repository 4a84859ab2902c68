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
