//! Transfers that break off, lie and hang: the file is right in the end, or not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use collimate_hub::HubError;

use super::hub::*;
use super::scripted::Reply;

fn weights() -> Vec<u8> {
    model().pop().unwrap().1
}

fn incomplete(cache: &Path) -> PathBuf {
    cache.join("models--org--name/blobs").join(format!("{}.incomplete", sha256(&weights())))
}

fn is_right(cache: &Path) -> bool {
    let snapshot = cache.join("models--org--name/snapshots").join(COMMIT);
    fs::read(snapshot.join("model.safetensors")).unwrap() == weights() && !incomplete(cache).exists()
}

/// Nothing that looks whole: no blob, nothing shown, no branch.
fn is_absent(cache: &Path) -> bool {
    let folder = cache.join("models--org--name");
    let shown = folder.join("snapshots").join(COMMIT).join("model.safetensors");
    !shown.exists()
        && !folder.join("refs").exists()
        && !folder.join("blobs").join(sha256(&weights())).exists()
}

#[test]
fn a_transfer_that_breaks_off_again_and_again_goes_on_where_it_broke() {
    let cache = tempfile::tempdir().unwrap();
    // More often than it may fail in a row: every part is progress.
    let hub = Hub::damaged(|_, seen| {
        let (bytes, from) = (weights(), from(seen));
        let end = (from + 200_000).min(bytes.len());
        let range = format!("content-range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
        let status = if from == 0 { 200 } else { 206 };
        Some(head(status, &range, bytes.len() - from, seen, &bytes[from..end]))
    });
    hub.fetch(cache.path()).unwrap();
    assert!(is_right(cache.path()));
    let starts: Vec<usize> = hub.store.seen().iter().map(from).collect();
    assert_eq!(starts, [0, 200_000, 400_000, 600_000, 800_000, 1_000_000]);
}

#[test]
fn a_server_that_gives_no_parts_is_asked_for_the_whole() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::damaged(|number, seen| {
        let bytes = weights();
        let end = if number == 0 { 500_000 } else { bytes.len() };
        Some(head(200, "", bytes.len(), seen, &bytes[..end]))
    });
    hub.fetch(cache.path()).unwrap();
    assert!(is_right(cache.path()));
}

#[test]
fn another_part_than_was_asked_for_is_not_taken() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::damaged(|number, seen| {
        let bytes = weights();
        match number {
            0 => Some(head(200, "", bytes.len(), seen, &bytes[..500_000])),
            1 => Some(head(206, "content-range: bytes 0-1/2\r\n", bytes.len(), seen, &bytes)),
            _ => None,
        }
    });
    hub.fetch(cache.path()).unwrap();
    assert!(is_right(cache.path()));
}

#[test]
fn a_file_that_is_shorter_than_it_is_said_to_be_is_given_up() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::damaged(|_, seen| {
        let bytes = weights();
        Some(part(&bytes[..bytes.len() - 9], seen))
    });
    let error = hub.fetch(cache.path()).unwrap_err();
    assert!(matches!(&error, HubError::GaveUp { attempts: 3, .. }), "{error}");
    assert!(is_absent(cache.path()));
}

#[test]
fn a_file_that_is_longer_than_it_is_said_to_be_is_refused() {
    for length in [false, true] {
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub::damaged(move |_, seen| {
            let bytes = [weights(), b"more".to_vec()].concat();
            let reply = match length {
                true => head(200, "", bytes.len(), seen, &bytes),
                // Until the connection ends, and it does not.
                false => Reply::raw("HTTP/1.1 200 X\r\nconnection: close\r\n\r\n")
                    .then_for_ever(vec![0; 100_000], Duration::ZERO),
            };
            Some(reply)
        });
        let error = hub.fetch(cache.path()).unwrap_err();
        assert!(matches!(&error, HubError::Damaged { got, .. } if got.contains("more bytes")), "{error}");
        assert!(is_absent(cache.path()) && !incomplete(cache.path()).exists());
    }
}

#[test]
fn wrong_bytes_are_not_kept() {
    for name in ["config.json", "model.safetensors"] {
        let cache = tempfile::tempdir().unwrap();
        let wrong = move |seen: &super::scripted::Seen| {
            let (_, mut bytes) = model().into_iter().find(|(known, _)| known == name)?;
            bytes[1] ^= 1;
            let asked = seen.line.starts_with("GET") && seen.line.contains(&format!("/{name}"));
            asked.then(|| head(200, "", bytes.len(), seen, &bytes))
        };
        let hub = Hub::with(
            model(),
            move |_, seen| wrong(seen).filter(|_| name == "config.json"),
            move |_, seen| wrong(seen),
        );
        let error = hub.fetch(cache.path()).unwrap_err();
        assert!(matches!(&error, HubError::Damaged { file, .. } if file == name), "{error}");
        assert!(is_absent(cache.path()) && !incomplete(cache.path()).exists());
    }
}

#[test]
fn what_an_earlier_start_left_is_used_or_thrown_away() {
    let hub = Hub::start(model());
    let bytes = weights();
    let long = [bytes.as_slice(), b"x"].concat();
    for (left, expected) in
        [(&bytes[..700_000], 700_000), (&vec![7; 700_000], 700_000), (&long, 0), (&bytes, 0)]
    {
        let cache = tempfile::tempdir().unwrap();
        fs::create_dir_all(incomplete(cache.path()).parent().unwrap()).unwrap();
        fs::write(incomplete(cache.path()), left).unwrap();
        let before = hub.store.seen().len();
        hub.fetch(cache.path()).unwrap();
        assert!(is_right(cache.path()));
        let first = hub.store.seen().get(before).map(from);
        // Whole already: nothing is asked for.
        assert_eq!(first, (left != &bytes[..]).then_some(expected));
    }
}

#[test]
fn a_server_that_hangs_is_not_waited_for() {
    let cache = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let hub = Hub::damaged(|number, seen| match number {
        0 => Some(Reply::hang()),
        1 => {
            let bytes = weights();
            Some(head(200, "", bytes.len(), seen, &bytes[..400_000]).then_hang())
        }
        _ => None,
    });
    hub.fetch(cache.path()).unwrap();
    assert!(is_right(cache.path()) && start.elapsed() < Duration::from_secs(20));
}

/// Run as another process by the test below; alone it does nothing.
#[test]
fn fetch_as_a_process() {
    let (Ok(endpoint), Ok(cache)) = (std::env::var("TEST_HUB"), std::env::var("TEST_CACHE")) else { return };
    let options = collimate_hub::HubOptions { endpoint, ..collimate_hub::HubOptions::new(cache.into()) };
    run(&request(), &options).unwrap();
}

#[test]
fn a_process_that_is_killed_leaves_what_the_next_one_goes_on_with() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::damaged(|number, seen| {
        let bytes = weights();
        (number == 0).then(|| head(200, "", bytes.len(), seen, &bytes[..600_000]).then_hang())
    });
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["fetch_as_a_process", "--nocapture"])
        .env("TEST_HUB", origin(&hub.hub))
        .env("TEST_CACHE", cache.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let length = || fs::metadata(incomplete(cache.path())).map_or(0, |metadata| metadata.len());
    while length() < 600_000 && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(10));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(is_absent(cache.path()) && length() == 600_000);
    hub.fetch(cache.path()).unwrap();
    assert!(is_right(cache.path()));
    assert_eq!(hub.store.seen().iter().map(from).collect::<Vec<_>>(), [0, 600_000]);
}
