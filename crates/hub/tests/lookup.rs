//! Paths that may be ids.

use std::fs;
use std::path::Path;

use collimate_hub::{Lookup, look_up};

use super::hub::*;

#[test]
fn an_id_is_found_in_the_cache_and_a_path_stays_a_path() {
    let cache = tempfile::tempdir().unwrap();
    let found = |path: &str| look_up(Path::new(path), cache.path());
    assert!(matches!(found("org/name"), Lookup::Missing(id) if id.as_str() == "org/name"));
    let fetched = Hub::start(model()).fetch(cache.path()).unwrap();
    assert_eq!(found("org/name"), Lookup::Found(fetched.path.clone()));
    assert_eq!(found("org/name/model.safetensors"), Lookup::Found(fetched.path.join("model.safetensors")));
    // What is on the disk, what could be made there, and what is no name.
    let own = tempfile::tempdir().unwrap();
    fs::create_dir_all(own.path().join("org/name")).unwrap();
    let own = own.path().join("org/name").to_str().unwrap().to_owned();
    for path in ["src", "src/none", "none", "a/b/c", "../org/name", "org/name/../name", own.as_str()] {
        assert_eq!(found(path), Lookup::Path, "{path}");
    }
}

#[test]
fn a_branch_that_leads_out_of_the_cache_is_not_followed() {
    let cache = tempfile::tempdir().unwrap();
    let refs = cache.path().join("models--org--name/refs");
    fs::create_dir_all(&refs).unwrap();
    fs::create_dir_all(cache.path().join("models--org--name/snapshots")).unwrap();
    for commit in ["..", "../..", "/", ""] {
        fs::write(refs.join("main"), commit).unwrap();
        assert!(matches!(look_up(Path::new("org/name"), cache.path()), Lookup::Missing(_)), "{commit}");
    }
}
