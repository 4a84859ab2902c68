//! A Hub that behaves: what is fetched, where it stands, what goes to whom.

use std::fs;

use super::hub::*;
use super::scripted::Reply;

#[test]
fn a_model_stands_in_the_cache_as_python_keeps_it() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(model());
    let fetched = hub.fetch(cache.path()).unwrap();
    let folder = cache.path().join("models--org--name");
    assert_eq!(fetched.path, folder.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    for (name, bytes) in model() {
        let shown = fetched.path.join(&name);
        assert_eq!(fs::read(&shown).unwrap(), bytes, "{name}");
        let tag = if name == "model.safetensors" { sha256(&bytes) } else { git(&bytes) };
        assert!(folder.join("blobs").join(&tag).is_file(), "{name}");
        #[cfg(unix)]
        assert_eq!(fs::read_link(&shown).unwrap().to_str(), Some(format!("../../blobs/{tag}").as_str()));
    }
    let bytes = model().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!((fetched.files, fetched.bytes, fetched.received), (3, bytes, bytes));
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(model());
    let first = hub.fetch(cache.path()).unwrap();
    let again = hub.fetch(cache.path()).unwrap();
    assert_eq!((again.received, &again.path), (0, &first.path));
    assert_eq!(hub.store.seen().len(), 1, "the weights were asked for once");
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(model());
    hub.fetch(cache.path()).unwrap();
    let asked = hub.hub.seen();
    assert!(asked.iter().all(has_token));
    assert!(asked[0].headers.contains(&format!("authorization: Bearer {TOKEN}")));
    let store = hub.store.seen();
    assert!(!store.is_empty() && !store.iter().any(has_token));
}

#[test]
fn without_a_network_the_cache_is_asked_alone() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(model());
    let online = hub.fetch(cache.path()).unwrap();
    let asked = hub.hub.seen().len();
    let options = collimate_hub::HubOptions { offline: true, ..hub.options(cache.path()) };
    let offline = run(&request(), &options).unwrap();
    assert_eq!((offline.path, offline.files, offline.bytes), (online.path, online.files, online.bytes));
    let by_commit = collimate_hub::Request { revision: COMMIT.to_owned(), ..request() };
    assert_eq!(run(&by_commit, &options).unwrap().commit.as_deref(), Some(COMMIT));
    let other = collimate_hub::Request { revision: "v2".to_owned(), ..request() };
    let error = run(&other, &options).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains("`v2`"), "{error}");
    assert_eq!(hub.hub.seen().len(), asked);
}

#[test]
fn shards_are_those_that_the_index_names() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let names = [
        "config.json",
        "model.safetensors.index.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "old.safetensors",
    ];
    let contents: [&[u8]; 5] = [b"{}", index, b"first", b"second", b"old"];
    let files =
        names.iter().zip(contents).map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    let cache = tempfile::tempdir().unwrap();
    let fetched = Hub::start(files).fetch(cache.path()).unwrap();
    assert_eq!(fetched.files, 4);
    assert_eq!(fs::read(fetched.path.join("model-2.safetensors")).unwrap(), b"second");
    assert!(!fetched.path.join("old.safetensors").exists());
}

#[test]
fn a_gguf_file_is_fetched_where_it_is_included() {
    let files: Files =
        ["a-Q4_K_M.gguf", "deep/a-Q8_0.gguf"].map(|name| (name.to_owned(), name.into())).to_vec();
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(files);
    let include = vec!["*Q8_0.gguf".to_owned()];
    let fetched = run(&collimate_hub::Request { include, ..request() }, &hub.options(cache.path())).unwrap();
    assert!(fetched.path.ends_with("deep/a-Q8_0.gguf"));
    assert_eq!(fs::read(&fetched.path).unwrap(), b"deep/a-Q8_0.gguf");
}

#[test]
fn a_folder_of_ones_own_is_filled_and_checked() {
    let (cache, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = Hub::start(model());
    let request = collimate_hub::Request { local_dir: Some(own.path().to_owned()), ..request() };
    let fetched = run(&request, &hub.options(cache.path())).unwrap();
    assert_eq!(fetched.path, own.path());
    assert!(fs::read_dir(cache.path()).unwrap().next().is_none(), "the cache is left alone");
    let weights = own.path().join("model.safetensors");
    assert!(weights.symlink_metadata().unwrap().is_file());
    assert_eq!(run(&request, &hub.options(cache.path())).unwrap().received, 0);
    // Damaged since: the same length, other bytes.
    let sound = fs::read(&weights).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&weights, vec![0; sound.len()]).unwrap();
    assert_eq!(run(&request, &hub.options(cache.path())).unwrap().received, sound.len() as u64);
    assert_eq!(fs::read(&weights).unwrap(), sound);
}

#[test]
fn a_model_under_a_new_name_is_followed_on_the_same_host() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::with(
        model(),
        |_, seen| {
            let old = seen.line.contains("/config.json") && !seen.line.contains("moved=yes");
            let path = seen.line.split(' ').nth(1)?.to_owned();
            old.then(|| head(307, &format!("location: {path}?moved=yes\r\n"), 0, seen, b""))
        },
        |_, _| None,
    );
    assert_eq!(hub.fetch(cache.path()).unwrap().files, 3);
    assert!(hub.hub.seen().iter().all(has_token));
}

#[test]
fn a_busy_hub_is_asked_again() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::with(
        model(),
        |number, _| match number {
            0 => Some(Reply::error(503, "", "x", "overloaded")),
            1 => Some(Reply::error(429, "retry-after: 0\r\n", "x", "too many requests")),
            2 => Some(Reply::raw("")),
            // Counted anew for each thing that is asked for.
            4 | 5 => Some(Reply::error(500, "", "x", "oh")),
            _ => None,
        },
        |_, _| None,
    );
    let mut options = hub.options(cache.path());
    options.attempts = 4;
    assert_eq!(run(&request(), &options).unwrap().files, 3);
}

#[test]
fn without_a_network_only_what_is_whole_is_found() {
    let cache = tempfile::tempdir().unwrap();
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let names = ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"];
    let contents: [&[u8]; 4] = [b"{}", index, b"first", b"second"];
    let files =
        names.iter().zip(contents).map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    let hub = Hub::start(files);
    let options = collimate_hub::HubOptions { offline: true, ..hub.options(cache.path()) };
    let folder = hub.fetch(cache.path()).unwrap().path;
    let absent = |request| matches!(run(&request, &options), Err(collimate_hub::HubError::Offline { .. }));
    let include = |pattern: &str| collimate_hub::Request { include: vec![pattern.to_owned()], ..request() };
    assert_eq!(run(&request(), &options).unwrap().files, 4);
    assert_eq!(run(&include("*-1.safetensors"), &options).unwrap().bytes, 5);
    assert!(absent(include("*.gguf")));
    fs::create_dir(folder.join("deep")).unwrap();
    fs::write(folder.join("deep/a.gguf"), "a").unwrap();
    assert!(run(&include("*.gguf"), &options).unwrap().path.ends_with("deep/a.gguf"));
    for lost in ["model-2.safetensors", "model.safetensors.index.json"] {
        fs::remove_file(folder.join(lost)).unwrap();
        fs::remove_dir_all(folder.join("deep")).unwrap_or_default();
        assert!(absent(request()), "{lost}");
    }
}
