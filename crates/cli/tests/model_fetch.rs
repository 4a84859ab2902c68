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

/// The environment of a room's own cache, which no network reaches.
fn offline(home: &str) -> [(&str, &str); 2] {
    [("HF_HOME", home), ("HF_HUB_OFFLINE", "1")]
}

#[test]
fn what_is_written_names_the_id_and_not_the_cache() {
    let room = Room::new();
    put_into_cache(&room, "main");
    let home = room.path("home").display().to_string();
    room.write("rows.jsonl", "{\"prompt\": \"One \", \"response\": \"two\"}\n");
    let words = "train sft --dataset rows.jsonl --output_dir out --max_steps 1 --model_name_or_path org/name";
    let said = room.run_with(words, &offline(&home));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let config: Value = serde_json::from_str(&room.read("out/adapter_config.json")).unwrap();
    assert_eq!(config["base_model_name_or_path"], "org/name");
    assert!(room.read("out/README.md").contains("base_model: \"org/name\""));
    let manifest: Value = serde_json::from_str(&room.read("out/manifest.json")).unwrap();
    assert_eq!(manifest["inputs"][0]["path"], "org/name");
    for file in ["adapter_config.json", "README.md", "manifest.json"] {
        assert!(!room.read(&format!("out/{file}")).contains("snapshots"), "{file}");
    }
}

#[test]
fn the_model_of_a_reward_is_found_by_the_id_that_its_adapter_names() {
    let room = Room::new();
    put_into_cache(&room, "main");
    let home = room.path("home").display().to_string();
    room.write("pairs.jsonl", "{\"prompt\": \"One \", \"chosen\": \"two\", \"rejected\": \"six\"}\n");
    let words =
        "train reward --dataset pairs.jsonl --output_dir out --max_steps 1 --model_name_or_path org/name";
    let said = room.run_with(words, &offline(&home));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let reward = "eval rewards --dataset pairs.jsonl --reward_funcs model:out --output_dir";
    let said = room.run_with(&format!("{reward} marks"), &offline(&home));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let manifest: Value = serde_json::from_str(&room.read("marks/manifest.json")).unwrap();
    let inputs = manifest["inputs"].as_array().unwrap();
    assert!(inputs.iter().any(|input| input["path"] == "org/name"), "{inputs:?}");
    std::fs::rename(room.path("home/hub"), room.path("home/elsewhere")).unwrap();
    let said = room.run_with(&format!("{reward} others"), &offline(&home));
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("`collimate model fetch org/name`"), "{}", said.stderr);
}

#[test]
fn a_recipe_says_how_a_model_is_fetched_before_its_first_step() {
    let room = Room::new();
    let home = room.path("home").display().to_string();
    room.write("rows.jsonl", "{\"prompt\": \"One \", \"response\": \"two\"}\n");
    let step = |name: &str, settings: &str| format!("[{name}]\ndataset = \"rows.jsonl\"\n{settings}\n");
    let tiny = tiny().display().to_string();
    for settings in [
        "model_name_or_path = \"org/name\"".to_owned(),
        format!("model_name_or_path = \"{tiny}\"\nadapter_name_or_path = \"org/name\""),
    ] {
        room.write("recipe.toml", &step("eval_loss", &settings));
        for words in ["run recipe.toml", "run recipe.toml --dry_run"] {
            let said = room.run_with(words, &offline(&home));
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.stderr.contains("`collimate model fetch org/name`"), "{}", said.stderr);
        }
    }
    // Data is not fetched.
    let settings = format!("model_name_or_path = \"{tiny}\"");
    room.write("recipe.toml", &step("eval_loss", &settings).replace("rows.jsonl", "org/name"));
    let said = room.run_with("run recipe.toml", &offline(&home));
    assert!(said.code == Some(1) && !said.stderr.contains("model fetch"), "{}", said.stderr);
}

#[test]
fn a_cache_that_holds_a_part_of_a_model_says_how_the_rest_is_fetched() {
    let room = Room::new();
    let snapshot = put_into_cache(&room, "main");
    let home = room.path("home").display().to_string();
    room.write("rows.jsonl", "{\"prompt\": \"One \", \"response\": \"two\"}\n");
    for lost in ["model.safetensors", "config.json"] {
        std::fs::remove_file(snapshot.join(lost)).unwrap();
        let said =
            room.run_with("eval loss --model_name_or_path org/name --dataset rows.jsonl", &offline(&home));
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("`collimate model fetch org/name`"), "{}", said.stderr);
    }
}

#[test]
fn a_model_in_the_cache_is_shown_and_planned_by_its_id() {
    let room = Room::new();
    put_into_cache(&room, "main");
    let home = room.path("home").display().to_string();
    let shown = |name: &str| {
        let said = room.run_with(&format!("model info {name} --json"), &offline(&home));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        serde_json::from_str::<Value>(&said.stdout).unwrap()
    };
    let (by_id, by_path) = (shown("org/name"), shown(&tiny().display().to_string()));
    assert_eq!(by_id["model"]["parameters"], by_path["model"]["parameters"]);
    assert!(by_id["model"]["tokenizer"].to_string().contains("vocab"), "{by_id}");
    let said =
        room.run_with("model plan --model_name_or_path org/name --device h200 --json", &offline(&home));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for words in ["model info org/other", "model plan --model_name_or_path org/other --device h200"] {
        let said = room.run_with(words, &offline(&home));
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("`collimate model fetch org/other`"), "{}", said.stderr);
    }
}
