//! `generate`, `chat` and `data rejected` on a server with OpenAI's interface.

use std::path::Path;

use crate::scripted::{Reply, Seen, Server};
use crate::support::{Room, tiny};
use serde_json::{Value, json};

const KEY: &str = "sk-secret-of-the-test";
const ROWS: &str = "{\"prompt\": \"one\", \"id\": 7}\n{\"prompt\": \"two\"}\n{\"prompt\": \"three\"}\n";

/// Answers a chat with its prompt, as often as is asked.
fn echo(seen: &Seen) -> Reply {
    let text = format!("answer to {}", seen.prompt());
    let count = usize::try_from(seen.body["n"].as_u64().unwrap()).unwrap();
    Reply::chat(&vec![text.as_str(); count])
}

/// A command that asks the server for `rows.jsonl`.
fn generate(server: &Server, words: &str) -> String {
    let common = "generate --model_name_or_path org/model --prompts rows.jsonl --output_dir out";
    format!("{common} --base_url {} {words}", server.base_url)
}

fn rows(room: &Room, name: &str) -> Vec<Value> {
    room.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether the key stands in a file of a folder.
fn holds_key(folder: &Path) -> bool {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.any(|path| match path.is_dir() {
        true => holds_key(&path),
        false => String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(KEY),
    })
}

#[test]
fn prompts_are_answered_by_the_server_and_the_key_stands_nowhere() {
    let (room, server) = (Room::new(), Server::start(|_, seen| echo(seen)));
    room.write("rows.jsonl", ROWS);
    let variables = [("OPENAI_API_KEY", KEY)];
    let said = room.run_with(&generate(&server, "--n 2 --do_sample"), &variables);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let found = rows(&room, "out/output.jsonl");
    let texts: Vec<&str> = found.iter().map(|row| row["gen"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one", "one", "two", "two", "three", "three"].map(|text| format!("answer to {text}")));
    assert_eq!((&found[1]["id"], &found[1]["sample"], found[1].get("tokens")), (&7.into(), &1.into(), None));
    assert_eq!(found[0]["prompt_format"], "chat");

    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    for seen in &seen {
        assert_eq!((&seen.body["model"], &seen.body["n"]), (&"org/model".into(), &2.into()));
        assert!(seen.headers.contains(&format!("authorization: Bearer {KEY}")), "{:?}", seen.headers);
    }
    assert!(!holds_key(&room.path("out")) && !(said.stdout + &said.stderr).contains(KEY));
    let manifest: Value = serde_json::from_str(&room.read("out/manifest.json")).unwrap();
    assert!(manifest.to_string().contains(&server.base_url) && manifest.to_string().contains("org/model"));

    // How the server is pressed changes no answer; which model is asked does.
    let said =
        room.run_with(&generate(&server, "--n 2 --do_sample --concurrency 2 --max_retries 0"), &variables);
    assert!(said.stderr.contains("nothing changed"), "{}", said.stderr);
    let said = room.run(&generate(&server, "--n 2 --do_sample --adapter lora"));
    assert!(said.stderr.contains("the older out is kept as out~1"), "{}", said.stderr);
    let last = server.seen().pop().unwrap();
    assert_eq!((server.seen().len(), &last.body["model"]), (6, &"lora".into()));
    assert_eq!(
        (last.line.as_str(), rows(&room, "out/output.jsonl")[0]["prompt_format"].clone()),
        ("POST /v1/completions HTTP/1.1", "instruction".into())
    );
}

#[cfg(unix)]
#[test]
fn after_an_interruption_only_what_is_missing_is_asked_for() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let room = Room::new();
    room.write("rows.jsonl", ROWS);
    let server = Server::start(|number, seen| match seen.prompt().as_str() {
        "three" if number < 3 => Reply::hang(),
        _ => echo(seen),
    });
    let words = generate(&server, "--quiet");
    let mut command = Command::new(env!("CARGO_BIN_EXE_collimate"));
    command.current_dir(room.path("")).args(words.split_whitespace()).env("OPENAI_API_KEY", KEY);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (begun, journal) = (Instant::now(), room.path("out").join(collimate_run::JOURNAL_FILE));
    let kept = || std::fs::read_to_string(&journal).unwrap_or_default();
    while ["one", "two"].iter().any(|text| !kept().contains(&format!("answer to {text}"))) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", kept());
        std::thread::sleep(Duration::from_millis(10));
    }
    while server.seen().len() < 3 {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!holds_key(&room.path("out")));

    let said = room.run_with(&words, &[("OPENAI_API_KEY", KEY)]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let again: Vec<String> = server.seen()[3..].iter().map(Seen::prompt).collect();
    assert_eq!(again, ["three"]);
    let texts: Vec<Value> = rows(&room, "out/output.jsonl").iter().map(|row| row["gen"].clone()).collect();
    assert_eq!(texts, ["answer to one", "answer to two", "answer to three"]);
}

#[test]
fn after_failures_that_may_pass_only_what_is_missing_is_asked_for() {
    let room = Room::new();
    room.write("rows.jsonl", ROWS);
    let server = Server::start(|number, seen| match seen.prompt().as_str() {
        "two" if number < 3 => Reply::error(500, "", "", "out of order"),
        _ => echo(seen),
    });
    let words = generate(&server, "--max_retries 0");
    let said = room.run(&words);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    for part in ["prompts without an answer so far: 1", "out of order", "what was answered is kept"] {
        assert!(said.stderr.contains(part), "{}", said.stderr);
    }
    assert!(!room.path("out/DONE").exists() && !room.path("out/rejects.jsonl").exists());

    let said = room.run(&words);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let again: Vec<String> = server.seen()[3..].iter().map(Seen::prompt).collect();
    assert_eq!(again, ["two"]);
    let texts: Vec<Value> = rows(&room, "out/output.jsonl").iter().map(|row| row["gen"].clone()).collect();
    assert_eq!(texts, ["answer to one", "answer to two", "answer to three"]);
}

#[test]
fn what_is_refused_is_said() {
    let room = Room::new();
    room.write("rows.jsonl", ROWS);
    let server = Server::start(|_, seen| match (seen.prompt().as_str(), &seen.body["model"]) {
        ("three", model) if model == "lora" => Reply::json(
            200,
            "",
            &json!({"choices": [
                {"index": 0, "text": "Yes.", "finish_reason": "stop"}
            ]}),
        ),
        _ => Reply::error(400, "", "", "too long"),
    });
    let reason = "rows.jsonl, line 1: the server refuses prompt 1 (status 400): too long";
    for strict in ["", " --strict"] {
        let said = room.run(&generate(&server, &format!("--concurrency 1{strict}")));
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.stderr.contains(reason) && said.stderr.contains("shorten it"), "{}", said.stderr);
        assert!(!room.path("out/DONE").exists() && !room.path("out/output.jsonl").exists());
    }
    let said = room.run(&generate(&server, "--concurrency 1 --adapter lora --prompt_format plain"));
    assert_eq!((said.code, rows(&room, "out/output.jsonl").len()), (Some(0), 1), "{}", said.stderr);
    assert!(said.stderr.contains(reason), "{}", said.stderr);
    assert_eq!(rows(&room, "out/rejects.jsonl").len(), 2);
}

#[test]
fn a_conversation_is_held_with_the_key_of_the_folder() {
    let room = Room::new();
    room.write(".env", &format!("OPENAI_API_KEY={KEY}\n"));
    let event = |text: &str, finish_reason: Option<&str>| {
        let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish_reason});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let reply = Reply::events().then(event("Take ", None)).then(event("it.", Some("stop")));
    let server =
        Server::replies(vec![reply.clone(), reply, Reply::error(400, "", "", "context of 8 tokens")]);
    let words = format!("chat --base_url {} --model_name_or_path org/model --system Hm.", server.base_url);
    let said = room.run_on(&words, "Boil?\n/adapter\n/adapter lora\nFry?\nLong.\n");
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Take it.\nTake it.\n"), "{}", said.stderr);
    assert!(said.stderr.contains("at hand: what the server has, none"), "{}", said.stderr);
    assert!(said.stderr.contains("refuses prompt 1 (status 400): context of 8 tokens"), "{}", said.stderr);
    let seen = server.seen();
    let models: Vec<&Value> = seen.iter().map(|seen| &seen.body["model"]).collect();
    assert_eq!(models, ["org/model", "lora", "lora"]);
    let said = seen[1].body["messages"].as_array().unwrap().iter().map(|message| message["content"].clone());
    assert_eq!(said.collect::<Vec<_>>(), ["Hm.", "Boil?", "Take it.", "Fry?"]);
    assert!(seen[1].headers.contains(&format!("authorization: Bearer {KEY}")), "{:?}", seen[1].headers);
}

#[test]
fn pairs_are_made_of_answers_of_the_server() {
    let room = Room::new();
    let row = |n: usize| format!(r#"{{"prompt": "Double {n}.", "response": "It is {n}."}}"#);
    room.write("rows.jsonl", &(0..3).map(row).collect::<Vec<_>>().join("\n"));
    let server = Server::start(|number, _| {
        // The first answer is the chosen one of one of the rows at most.
        let text = if number == 0 { "" } else { "No." };
        Reply::json(200, "", &json!({"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}))
    });
    let words = "data rejected --dataset rows.jsonl --output_dir prefs --model_name_or_path org/model";
    let words = format!("{words} --base_url {}", server.base_url);
    let said = room.run_with(&words, &[("OPENAI_API_KEY", KEY)]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(server.seen().len(), 4, "the empty answer is asked for again");
    assert!(server.seen().iter().all(|seen| seen.line.starts_with("POST /v1/completions ")));
    let pairs = [rows(&room, "prefs/prefs_train.jsonl"), rows(&room, "prefs/prefs_val.jsonl")].concat();
    assert!(pairs.len() == 3 && pairs.iter().all(|pair| pair["rejected"] == "No."), "{pairs:?}");
    assert!(!holds_key(&room.path("prefs")));
    assert!(room.read("prefs/manifest.json").contains("org/model"));
}

#[test]
fn what_one_of_the_two_does_not_heed_is_refused() {
    let room = Room::new();
    room.write("run.toml", "base_url = \"http://a\"\n");
    let common = "generate --prompt a --model_name_or_path org/model";
    for (words, reason) in [
        ("--dtype int8 --base_url http://a", "'--dtype <NAME>' cannot be used with '--base_url <URL>'"),
        ("--base_url http://a --memory 1GB", "'--memory <SIZE>' cannot be used with '--base_url <URL>'"),
        ("--config run.toml --memory 1GB", "'--memory <SIZE>' cannot be used with '--base_url <URL>'"),
        ("--concurrency 2", "--base_url"),
        ("--max_total_tokens 2", "--base_url"),
    ] {
        let said = room.run(&format!("{common} {words}"));
        assert_eq!(said.code, Some(1), "{words}");
        assert!(said.stderr.contains(reason), "{words}: {}", said.stderr);
    }
    // Settings of the engine do not shut out one another.
    let said = room.run("generate --prompt a --model_name_or_path none --dtype int8 --memory 1GB");
    assert!(!said.stderr.contains("cannot be used"), "{}", said.stderr);
}

#[test]
fn an_adapter_is_named_by_the_server_and_a_password_in_the_address_is_kept_nowhere() {
    let room = Room::new();
    let folder = tiny().join("adapter");
    let common = "generate --prompt a --model_name_or_path org/model --output_dir out --base_url";
    let said =
        room.run(&format!("{common} http://localhost:1/v1 --adapter_name_or_path {}", folder.display()));
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr.replace(&folder.display().to_string(), "ADAPTER"));

    // A wrong address begins no folder, and is not repeated.
    let fresh = Room::new();
    let addresses = [
        (format!("http://me:{KEY}@localhost:1/v1"), "it holds a name or password"),
        (format!("http://localhost:1/v1?key={KEY}"), "http://localhost:1/v1… is not the address of a server"),
    ];
    for (address, reason) in addresses {
        fresh.write("run.toml", &format!("base_url = \"{address}\"\n"));
        let in_file = common.replace("--base_url", "--config run.toml");
        for words in [format!("{common} {address}"), in_file] {
            let said = fresh.run(&words);
            assert_eq!(said.code, Some(1));
            assert!(said.stderr.contains(reason) && !said.stderr.contains(KEY), "{}", said.stderr);
            assert!(!fresh.path("out").exists());
        }
    }
}

#[test]
fn a_key_that_leaves_the_machine_unencrypted_is_warned_of() {
    let (room, server) = (Room::new(), Server::start(|_, seen| echo(seen)));
    room.write("rows.jsonl", ROWS);
    let outside = generate(&server, "").replace("127.0.0.1", "0.0.0.0");
    let warned = |words: &str, variables: &[(&str, &str)]| {
        let said = room.run_with(&format!("{words} --force"), variables);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        said.stderr.contains("unencrypted")
    };
    let key = [("OPENAI_API_KEY", KEY)];
    assert!(warned(&outside, &key));
    assert!(!warned(&outside, &[]) && !warned(&generate(&server, ""), &key));
}
