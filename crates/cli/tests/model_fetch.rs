//! `model fetch`, and models by their ids.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::scripted::{Reply, Server};
use crate::support::{Room, tiny};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Hub with the tiny model, under tags that are no checksums.
fn hub() -> Server {
    Server::start(|_, seen| {
        let path = seen.line.split(' ').nth(1).unwrap();
        let Some((_, name)) = path.split_once(&format!("/resolve/{COMMIT}/")) else {
            let names = std::fs::read_dir(tiny()).unwrap().map(|entry| entry.unwrap());
            let names = names.filter(|entry| entry.path().is_file()).map(|entry| entry.file_name());
            let siblings: Vec<Value> =
                names.map(|name| json!({"rfilename": name.to_str().unwrap()})).collect();
            return Reply::json(200, "", &json!({"sha": COMMIT, "siblings": siblings}));
        };
        let bytes = std::fs::read(tiny().join(name)).unwrap();
        let tag = name.replace('.', "-");
        let head = format!(
            "HTTP/1.1 200 X\r\netag: \"{tag}\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            bytes.len()
        );
        let reply = Reply::raw(head);
        if seen.line.starts_with("HEAD") { reply } else { reply.then(bytes) }
    })
}

#[test]
fn a_fetched_model_is_known_by_its_id() {
    let (room, hub) = (Room::new(), hub());
    let home = room.path("home").display().to_string();
    let endpoint = hub.base_url.trim_end_matches("/v1");
    let online = [("HF_HOME", home.as_str()), ("HF_ENDPOINT", endpoint), ("HF_TOKEN", "hf_secret")];
    let said = room.run_with("model fetch org/name", &online);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let folder = Path::new(said.stdout.trim()).to_owned();
    assert!(folder.starts_with(room.path("home/hub/models--org--name/snapshots")), "{folder:?}");
    assert!(folder.join("model.safetensors").is_file() && !folder.join("expected.json").exists());
    assert!(
        hub.seen().iter().all(|seen| seen.headers.contains(&"authorization: Bearer hf_secret".to_owned()))
    );

    let offline = [("HF_HOME", home.as_str()), ("HF_HUB_OFFLINE", "1")];
    let asked = hub.seen().len();
    let again = room.run_with("model fetch org/name --json", &offline);
    let found: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(found["path"].as_str(), folder.to_str());
    room.write("rows.jsonl", "{\"prompt\": \"One \", \"response\": \"two\"}\n");
    let said = room.run_with("eval loss --model_name_or_path org/name --dataset rows.jsonl", &offline);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(hub.seen().len(), asked);
}

#[test]
fn an_id_that_is_not_in_the_cache_is_refused_with_the_command_that_fetches_it() {
    let room = Room::new();
    let home = room.path("home").display().to_string();
    let variables = [("HF_HOME", home.as_str()), ("HF_HUB_OFFLINE", "1")];
    room.write("rows.jsonl", "{\"prompt\": \"One \", \"response\": \"two\"}\n");
    for words in [
        "eval loss --model_name_or_path org/name --dataset rows.jsonl".to_owned(),
        format!(
            "eval loss --model_name_or_path {} --adapter_name_or_path org/name --dataset rows.jsonl",
            tiny().display()
        ),
    ] {
        let said = room.run_with(&words, &variables);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("`collimate model fetch org/name`"), "{}", said.stderr);
    }
    // A folder that is there shows that a path was meant.
    let said = room.run_with("eval loss --model_name_or_path home/name --dataset rows.jsonl", &variables);
    room.write("home/x", "");
    let path = room.run_with("eval loss --model_name_or_path home/name --dataset rows.jsonl", &variables);
    assert!(said.stderr.contains("model fetch") && !path.stderr.contains("model fetch"), "{}", path.stderr);
    let said = room.run_with("model fetch org/name", &variables);
    assert!(said.code == Some(1) && said.stderr.contains("HF_HUB_OFFLINE"), "{}", said.stderr);
}

/// Puts the tiny model into the cache as Python does.
fn put_into_cache(room: &Room, revision: &str) -> PathBuf {
    let model = room.path("home/hub/models--org--name");
    let snapshot = model.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    for entry in std::fs::read_dir(tiny()).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_file() {
            std::fs::copy(&entry, snapshot.join(entry.file_name().unwrap())).unwrap();
        }
    }
    room.write(&format!("home/hub/models--org--name/refs/{revision}"), COMMIT);
    snapshot
}

#[test]
fn a_path_may_hold_an_equals_sign() {
    let room = Room::new();
    put_into_cache(&room, "main");
    let home = room.path("home").display().to_string();
    let variables = [("HF_HOME", home.as_str()), ("HF_HUB_OFFLINE", "1")];
    room.write("rows.jsonl", "{\"prompt\": \"One \", \"response\": \"two\"}\n");
    let run = "eval loss --dataset rows.jsonl --model_name_or_path";
    // What stands behind the sign is in the cache, or could be fetched, and is not meant.
    for path in ["a=org/name", "runs/lr=none/at_all"] {
        let said = room.run_with(&format!("{run} {path}"), &variables);
        assert!(said.code == Some(1) && !said.stderr.contains("model fetch"), "{}", said.stderr);
        std::fs::create_dir_all(room.path(path).parent().unwrap()).unwrap();
        std::fs::rename(put_into_cache(&room, "main"), room.path(path)).unwrap();
        let said = room.run_with(&format!("{run} {path}"), &variables);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
}
