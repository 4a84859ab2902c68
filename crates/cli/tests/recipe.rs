//! Recipes: order, skipping, changes, dry runs, beginning anew, stops, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::recipe::{SMALL, STEPS, each, refused, room, run};
use crate::support::{Room, tiny};
use serde_json::Value;

/// What all files below a folder hold and when they were written.
fn state(folder: PathBuf) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let (mut found, mut waiting) = (Vec::new(), vec![folder]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => waiting.push(path),
                false => {
                    let written = path.metadata().unwrap().modified().unwrap();
                    found.push((path.clone(), fs::read(&path).unwrap(), written));
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn steps_run_in_order_and_a_second_run_does_nothing() {
    let room = room(SMALL);
    let first = run(&room, "");
    assert_eq!(each(&first, "step"), STEPS);
    assert_eq!(each(&first, "reused"), [false; 5]);
    assert_eq!((&first["recipe"], &first["output"]), (&"small".into(), &"runs/small".into()));
    let loss = |step: usize| first["steps"][step]["summary"]["loss"]["value"].as_f64().unwrap();
    // Of text that is all alike even a tiny model learns much in a few steps.
    assert!(loss(4) < 0.9 * loss(2), "{} -> {}", loss(2), loss(4));
    // A step's own seed counts over the shared one, and a default gives way to it.
    let seed = |step| {
        let manifest: Value =
            serde_json::from_str(&room.read(&format!("runs/small/{step}/manifest.json"))).unwrap();
        manifest["seed"].as_u64()
    };
    assert_eq!((seed("data_clean"), seed("data_sft"), seed("train_sft")), (Some(7), Some(42), Some(7)));
    let before = state(room.path("runs"));
    let second = run(&room, "");
    assert_eq!(each(&second, "reused"), [true; 5]);
    assert_eq!(each(&second, "summary"), each(&first, "summary"));
    assert!(state(room.path("runs")) == before);
    fs::remove_file(room.path("runs/small/report.html")).unwrap();
    assert_eq!(each(&run(&room, ""), "reused"), [true; 5]);
    assert!(room.path("runs/small/report.html").exists());
}

#[test]
fn a_person_reads_each_result_and_one_table_in_the_end() {
    let room = room(SMALL);
    let said = room.run("run small.toml");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for (number, step) in STEPS.iter().enumerate() {
        assert!(
            said.stderr.contains(&format!("step {} of 5: {step} (collimate ", number + 1)),
            "{}",
            said.stderr
        );
        assert!(
            said.stdout.contains(&format!("\nThe output stands in runs/small/{step}\n")),
            "{}",
            said.stdout
        );
    }
    let again = room.run("run small.toml");
    assert!(
        again.stderr.contains("runs/small/train_sft is finished and nothing changed"),
        "{}",
        again.stderr
    );
    assert!(again.stderr.ends_with("--from STEP would run a step again, and all that need it\n"));
    insta::assert_snapshot!(again.stdout);
}

#[test]
fn a_changed_setting_runs_what_depends_on_it_again() {
    let room = room(SMALL);
    run(&room, "");
    let found = run(&room, "--set train_sft.max_steps=3");
    assert_eq!(each(&found, "reused"), [true, true, true, false, false]);
    assert!(
        room.path("runs/small/train_sft~1/DONE").exists() && !room.path("runs/small/data_sft~1").exists()
    );
    // Shared ones reach every step that knows them and does not set them itself.
    let found = run(&room, "--set train_sft.max_steps=3 --set max_length=32");
    assert_eq!(each(&found, "reused"), [true, true, false, false, false]);
    // Another folder is another run.
    let found =
        run(&room, "--output_dir elsewhere --set train_sft.max_steps=3 --set train_sft.dataset=rows.jsonl");
    assert_eq!(
        (each(&found, "reused"), &found["output"]),
        (vec![&Value::Bool(false); 5], &"elsewhere".into())
    );
}

#[test]
fn a_dry_run_says_what_would_be_done_and_touches_nothing() {
    let room = room(SMALL);
    let said = room.run("run small.toml --dry_run");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!("dry_run_at_first", said.stdout);
    assert!(!room.path("runs").exists());
    run(&room, "");
    let before = state(room.path("runs"));
    let would = |words: &str| {
        let found = run(&room, &format!("--dry_run {words}"));
        each(&found, "would").iter().map(|would| would.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(would(""), ["be_done"; 5]);
    assert_eq!(would("--set train_sft.max_steps=3"), ["be_done", "be_done", "be_done", "run_anew", "wait"]);
    let both = "--set train_sft.max_steps=3 --set loss_after.max_length=32";
    assert_eq!(would(both), ["be_done", "be_done", "be_done", "run_anew", "run_anew"]);
    assert_eq!(would("--from data_sft"), ["be_done", "run_anew", "run_anew", "run_anew", "run_anew"]);
    assert_eq!(would("--force"), ["run_anew", "run_anew", "run_anew", "run_anew", "run_anew"]);
    let said = room.run("run small.toml --dry_run --set train_sft.max_steps=3");
    insta::assert_snapshot!("dry_run_after_a_change", said.stdout);
    fs::rename(room.path("runs/small/loss_after/DONE"), room.path("DONE")).unwrap();
    assert_eq!(would("--set train_sft.max_steps=3")[3..], ["run_anew", "go_on"]);
    fs::rename(room.path("DONE"), room.path("runs/small/loss_after/DONE")).unwrap();
    fs::remove_file(room.path("rows.jsonl")).unwrap();
    let said = room.run("run small.toml --dry_run");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!("dry_run_without_data", format!("{}\n{}", said.stdout, said.stderr));
    assert!(state(room.path("runs")) == before);
}

#[test]
fn from_a_step_on_all_that_needs_it_runs_anew() {
    let room = room(SMALL);
    run(&room, "");
    let found = run(&room, "--from train-sft");
    assert_eq!(each(&found, "reused"), [true, true, true, false, false]);
    for step in ["train_sft", "loss_after"] {
        assert!(room.path(&format!("runs/small/{step}~1/DONE")).exists(), "{step}");
    }
    assert!(!room.path("runs/small/loss_before~1").exists());
    insta::assert_snapshot!(refused(&room, "--from train"));
}

#[test]
fn a_failing_step_ends_the_run_and_is_named() {
    let room = room(&SMALL.replace("test_size = 0.2", "test_size = 7"));
    let said = room.run("run small.toml");
    assert_eq!(said.code, Some(1));
    let error = said.stderr.split_once("data_sft (collimate data sft)\n").unwrap().1;
    insta::assert_snapshot!(error);
    assert!(
        room.path("runs/small/data_clean/DONE").exists() && !room.path("runs/small/loss_before").exists()
    );
    // What there is can be read.
    assert!(room.read("runs/small/report.html").contains("data_clean"));
    let said = room.run("run small.toml --from data_sft");
    let next = "the same command without --from goes on where it failed\n";
    assert!(said.code == Some(1) && said.stderr.contains(next), "{}", said.stderr);
}

/// The last line that a run says which is stopped by Ctrl-C in its training.
#[cfg(unix)]
fn stopped(room: &Room, words: &[&str]) -> String {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("collimate"))
        .args(["run", "small.toml"])
        .args(words)
        .current_dir(room.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("training: ") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the training never began");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    rest.lines().last().unwrap().to_owned()
}

#[test]
#[cfg(unix)]
fn a_stopped_run_goes_on_to_the_same_end() {
    let room = room(&SMALL.replace("max_steps = 12", "max_steps = 400"));
    let to_go_on =
        |without: &str| format!("stopped before the end; the same command{without} goes on where it stopped");
    assert_eq!(stopped(&room, &[]), to_go_on(""));
    assert!(room.read("runs/small/report.html").contains("train_sft"));
    assert_eq!(stopped(&room, &["--force"]), to_go_on(" without --force"));
    // What is to run anew has not been begun: nothing would be begun once more.
    assert_eq!(stopped(&room, &["--from", "loss_after"]), to_go_on(""));
    assert_eq!(stopped(&room, &["--from", "train_sft"]), to_go_on(" without --from"));
    let would = run(&room, "--dry_run");
    assert_eq!(each(&would, "would"), ["be_done", "be_done", "be_done", "go_on", "run"]);
    let found = run(&room, "");
    assert_eq!(each(&found, "reused"), [true, true, true, false, false]);
    run(&room, "--output_dir whole --set train_sft.dataset={data_sft}/sft_train.jsonl");
    let adapter =
        |root: &str| fs::read(room.path(&format!("{root}/train_sft/adapter_model.safetensors"))).unwrap();
    assert!(adapter("runs/small") == adapter("whole"));
}

#[test]
fn what_cannot_be_in_a_recipe_is_refused_with_its_place() {
    let cases = [
        ("no steps", "seed = 1\n", ""),
        ("an unknown command", "[clean]\ncommand = \"data cleen\"\n", ""),
        ("a step without a command", "[data_claen]\nseed = 1\n", ""),
        ("a command that is no stage", "[talk]\ncommand = \"chat\"\n", ""),
        ("a recipe in a recipe", "[run]\nrecipe = \"other.toml\"\n", ""),
        ("a command that is no text", "[clean]\ncommand = 7\n", ""),
        ("a name that is no folder", "[\"../clean\"]\ncommand = \"data clean\"\n", ""),
        ("an unknown shared setting", "max_lenght = 3\n[train_sft]\n", ""),
        ("an unknown setting of a step", "[data_clean]\nsede = 3\n", ""),
        ("a missing setting", "[train_sft]\ndataset = \"rows.jsonl\"\n", ""),
        ("a reference to nothing", "[data_sft]\ninputs = [\"{data_claen}/x\"]\n", ""),
        (
            "a reference to a later step",
            "[data_sft]\ninputs = [\"{clean}/x\"]\n[clean]\ncommand = \"data clean\"\n",
            "",
        ),
        (
            "a path in the folder of a later step",
            "[data_sft]\ninputs = [\"runs/small/data_clean/x\"]\n[data_clean]\ninputs = [\"rows.jsonl\"]\n",
            "",
        ),
        (
            "one folder for two steps",
            "[data_sft]\ninputs = [\"rows.jsonl\"]\n[data_clean]\ninputs = [\"rows.jsonl\"]\n\
             output_dir = \"{data_sft}/clean\"\n",
            "",
        ),
        ("an unknown step in set", "[data_clean]\ninputs = [\"rows.jsonl\"]\n", "--set data_claen.seed=1"),
        ("an unknown setting in set", "[data_clean]\ninputs = [\"rows.jsonl\"]\n", "--set data_clean.sede=1"),
        ("a config beside", "[data_clean]\ninputs = [\"rows.jsonl\"]\n", "--config small.toml"),
    ];
    for (name, recipe, words) in cases {
        let room = room(recipe);
        insta::assert_snapshot!(name.replace(' ', "_"), refused(&room, words));
        assert!(!room.path("runs").exists(), "{name}");
    }
}

/// One step asks a server, which knows nothing of types: what is shared gives way there.
#[test]
fn a_shared_setting_gives_way_to_what_excludes_it() {
    let recipe = "dtype = \"bfloat16\"\nmodel_name_or_path = \"MODEL\"\n
        [here]\ncommand = \"generate\"\nprompt = \"{a: 1} {here}\"\n
        [there]\ncommand = \"generate\"\nprompt = \"b\"\nbase_url = \"http://localhost:9/v1\"\n";
    let found = run(&room(recipe), "--dry_run");
    assert_eq!(each(&found, "would"), ["run", "run"]);
}

#[test]
fn one_file_serves_commands_and_recipes() {
    let room = room(
        "[data_clean]\ninputs = [\"rows.jsonl\"]\n\
         [data_sft]\ninputs = [\"{data_clean}/cleaned_data.json\"]\n",
    );
    assert_eq!(room.run("data clean --config small.toml --output_dir out").code, Some(0));
    run(&room, "");
    let same =
        |file: &str| room.read(&format!("out/{file}")) == room.read(&format!("runs/small/data_clean/{file}"));
    assert!(same("cleaned_data.json"));
    room.write("small.toml", SMALL);
    let said = room.run("data clean --config small.toml");
    assert_eq!(said.code, Some(1));
    insta::assert_snapshot!(said.stderr);
}

/// Everything that a shipped recipe reads and no step makes.
fn write_inputs(room: &Room, recipe: &str) {
    let is_file = |word: &&str| Path::new(word).extension().is_some() && !word.contains('{');
    let settings = recipe.lines().filter(|line| !line.starts_with('#'));
    let texts = settings.flat_map(|line| line.split('"').skip(1).step_by(2));
    for file in texts.filter(is_file).chain(["models/base/config.json"]) {
        room.write(file, "x");
    }
}

/// What `init` writes for `name`, planned.
fn planned(name: &str) -> Value {
    let room = room("");
    let said = room.run(&format!("init {name} --output small.toml"));
    assert_eq!(said.code, Some(1), "written over what was there");
    fs::remove_file(room.path("small.toml")).unwrap();
    let said = room.run(&format!("init {name} --output small.toml"));
    assert_eq!(said.code, Some(0), "{name}: {}", said.stderr);
    // A reward has a form that no placeholder has.
    room.write("small.toml", &room.read("small.toml").replace("\"REWARD\"", "\"exact\""));
    if !name.contains(' ') && name != "generate" {
        write_inputs(&room, &room.read("small.toml"));
    }
    let folder = ["output", "guide", "guide_reverse"].map(|file| format!("FOLDER/{file}.jsonl"));
    let files = ["FILE", "PATH", "data/judge/prompts/prompts.jsonl"].map(str::to_owned);
    for required in files.iter().chain(&folder) {
        room.write(required, "x");
    }
    run(&room, "--dry_run")
}

#[test]
fn what_init_writes_for_a_command_can_be_planned() {
    let said = Room::new().run("init --json");
    let names: Vec<String> = serde_json::from_str(&said.stdout).unwrap();
    let commands: Vec<&String> =
        names.iter().filter(|name| name.contains(' ') || *name == "generate").collect();
    assert!(commands.len() > 10, "{names:?}");
    for command in commands {
        let found = planned(command);
        assert_eq!(each(&found, "command"), [command]);
        assert_eq!(each(&found, "would"), ["run"], "{command}");
    }
}

#[test]
fn the_recipes_of_instructions_and_preferences_can_be_planned() {
    assert_eq!(each(&planned("sft-dpo"), "would"), ["run"; 13]);
    assert_eq!(each(&planned("rlhf"), "would"), ["run"; 13]);
}

#[test]
fn the_recipes_with_a_judge_can_be_planned() {
    for name in ["judge", "demo"] {
        let found = planned(name);
        assert!(each(&found, "would").iter().all(|would| *would == "run"), "{name}: {found}");
    }
}

#[test]
fn init_lists_what_there_is_and_says_what_is_wrong() {
    let room = room("");
    let said = room.run("init");
    assert_eq!(said.code, Some(0));
    for line in ["sft-dpo ", "rlhf ", "train dpo ", "train reward ", "train online-dpo ", "eval rewards "] {
        assert!(said.stdout.lines().any(|found| found.starts_with(line)), "{}", said.stdout);
    }
    insta::assert_snapshot!("init_of_nothing_that_there_is", room.run("init train dbo").stderr);
    insta::assert_snapshot!("init_onto_a_file", room.run("init sft-dpo --output small.toml").stderr);
    insta::assert_snapshot!("init_without_a_name", room.run("init --output a.toml").stderr);
    assert_eq!(room.read("small.toml"), "");
    assert_eq!(room.run("init train dpo").code, Some(0));
    assert!(room.path("train_dpo.toml").exists());
}

/// What a shipped recipe finds when `init` has written it and it is run on the tiny model, into `runs/all`.
fn run_shipped(room: &Room, name: &str, sets: &[&str]) -> Value {
    assert_eq!(room.run(&format!("init {name}")).code, Some(0));
    let sets: String = sets.iter().map(|set| format!(" --set {set}")).collect();
    let sets = format!(" --set model_name_or_path={}{sets}", tiny().display());
    let words = format!("run {name}.toml --json --output_dir runs/all{sets}");
    let said = room.run_with(&words, &[("COLLIMATE_CACHE", &room.path("cache").display().to_string())]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

/// Fine-tuning and pairs from its adapter; then DPO, from the base and from there; then, without doing the former
/// again, a reward model and PPO; and every comparison.
#[test]
fn the_recipes_of_preferences_and_of_rewards_run_from_end_to_end_and_share_their_beginning() {
    let room = room("");
    let shared = [
        "data_clean.inputs=rows.jsonl",
        "train_sft.max_steps=3",
        "data_rejected.max_train_samples=24",
        "data_rejected.max_eval_samples=12",
        "max_new_tokens=8",
    ];
    let step = |found: &Value, name: &str| {
        let steps = found["steps"].as_array().unwrap();
        steps.iter().find(|step| step["step"] == name).unwrap().clone()
    };
    let found =
        run_shipped(&room, "sft-dpo", &[&shared[..], &["dpo.max_steps=3", "hybrid.max_steps=3"]].concat());
    assert_eq!(step(&found, "accuracy_hybrid")["summary"]["all"]["pairs"], 12);
    assert_eq!(step(&found, "compare_dpo")["summary"]["rows"].as_array().unwrap().len(), 3);

    let own = ["train_reward.max_steps=3", "train_ppo.max_steps=8", "train_ppo.max_completion_length=8"];
    let found = run_shipped(&room, "rlhf", &[&shared[..], &own].concat());
    let reused = |name: &str| step(&found, name)["reused"].clone();
    for name in ["data_clean", "data_sft", "train_sft", "data_rejected"] {
        assert_eq!(reused(name), true, "{name}");
    }
    assert_eq!(reused("train_reward"), false);
    assert_eq!(step(&found, "accuracy_reward")["summary"]["all"]["pairs"], 12);
    // Two rounds of 16 completions, each learnt from four times.
    assert_eq!(room.read("runs/all/train_ppo/completions.jsonl").lines().count(), 32);
    let measured = step(&found, "rewards_ppo")["summary"].clone();
    assert_eq!((&measured["completions"], &measured["rewards"][0]["name"]), (&4.into(), &"model".into()));
}
