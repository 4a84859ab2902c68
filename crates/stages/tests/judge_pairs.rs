//! `judge pairs`: from tidied judgements to pairs, split by prompt, with nothing unaccounted for.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::common::{config, fixtures, run};
use collimate_data::read_rows;
use collimate_judge::{Language, Number, judgement, verdict};
use collimate_model::Tokenizer;
use collimate_run::atomic;
use collimate_stages::Error;
use collimate_stages::judge::pairs::{BySplit, Config, JudgePairs, Summary, Unpaired, Verdicts};
use proptest::prelude::*;
use serde_json::{Value, json};

/// One prompt with its judgements, of which answer 1 is the preferred one.
#[derive(Debug, Clone, Default)]
struct Prompt {
    samples: Vec<String>,
    guide: String,
    guide_reverse: String,
    split: Option<&'static str>,
}

fn says(number: Number, reason: &str) -> String {
    judgement(Language::English, reason, number)
}

impl Prompt {
    /// Samples as `+a -b ?c`: right, wrong, unreadable ones with these reasons; and hinted judgements as they
    /// should be.
    fn new(samples: &str) -> Self {
        let sample = |word: &str| match word.split_at(1) {
            ("+", reason) => says(Number::First, reason),
            ("-", reason) => says(Number::Second, reason),
            (_, text) => format!("Both are good: {text}"),
        };
        Self {
            samples: samples.split_whitespace().map(sample).collect(),
            guide: says(Number::First, "told the truth"),
            guide_reverse: says(Number::Second, "told the opposite"),
            split: None,
        }
    }
}

struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new(prompts: &[Prompt]) -> Self {
        let room = Self { folder: tempfile::tempdir().unwrap() };
        let asked = |id: usize| format!("Which answer to question {id}?");
        let row = |id: usize, text: &str, sample: usize| {
            json!({
                "prompt": asked(id), "gen": text, "tag": "t", "test_id": id, "chosen": 1, "sample": sample,
            })
        };
        let mut files: [Vec<Value>; 4] = Default::default();
        for (id, Prompt { samples, guide, guide_reverse, split }) in prompts.iter().enumerate() {
            files[0].extend((0..).zip(samples).map(|(sample, text)| row(id, text, sample)));
            files[1].push(row(id, guide, 0));
            files[2].push(row(id, guide_reverse, 0));
            let mut prompt = json!({
                "prompt": asked(id), "gen": "", "tag": "t", "test_id": id, "chosen": 1,
                "q": "Q", "r1": "A", "r2": "B",
            });
            if let Some(split) = split {
                prompt["split"] = json!(split);
            }
            files[3].push(prompt);
        }
        std::fs::create_dir(room.path("tidied")).unwrap();
        let names =
            ["tidied/output.jsonl", "tidied/guide.jsonl", "tidied/guide_reverse.jsonl", "prompts.jsonl"];
        for (name, rows) in names.iter().zip(&files) {
            room.write(name, rows);
        }
        room
    }

    fn write(&self, name: &str, rows: &[Value]) {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        atomic::write(self.path(name), lines.as_bytes()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pairs(&self, words: &[&str]) -> Result<Summary, Error> {
        let paths = [
            self.path("tidied"),
            self.path("prompts.jsonl"),
            fixtures().join("tiny/llama"),
            self.path("out"),
        ];
        let names = ["dataset", "prompts", "model_name_or_path", "output_dir"];
        let paths = names.iter().zip(&paths).map(|(name, path)| format!("--{name}={}", path.display()));
        let paths: Vec<String> = paths.collect();
        let words: Vec<&str> = paths.iter().map(String::as_str).chain(words.iter().copied()).collect();
        Ok(run(&JudgePairs::new(config::<Config>(&words)))?.summary)
    }

    fn rows(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn table(&self, split: &str) -> Vec<Value> {
        let rows = read_rows(&self.path("out/dataset").join(split)).unwrap();
        rows.map(|row| Value::Object(row.unwrap().unwrap().fields)).collect()
    }
}

fn reason(judgement: &Value) -> String {
    let parsed: Value = serde_json::from_str(judgement.as_str().unwrap()).unwrap();
    parsed["reason"].as_str().unwrap().to_owned()
}

#[test]
fn one_shuffle_goes_through_all_prompts() {
    let room = Room::new(&[1, 2, 3].map(|_| Prompt::new("+a +b +c +d +e -v -w -x -y -z")));
    let summary = room.pairs(&["--test_size", "0"]).unwrap();
    let shown: Vec<String> = room
        .table("train")
        .iter()
        .filter(|row| row["pair_type"] == "best_of_n")
        .map(|row| format!("{} {}>{}", row["test_id"], reason(&row["chosen"]), reason(&row["rejected"])))
        .collect();
    // source = random.Random(2021); for each prompt: source.shuffle(right); source.shuffle(wrong)
    let expected = ["0 b>w", "0 e>v", "0 a>x", "1 a>y", "1 d>x", "1 b>z", "2 d>z", "2 b>y", "2 e>x"];
    assert_eq!(shown, expected);
    let pairs: Vec<(&str, u64)> =
        summary.pairs.iter().map(|(kind, split)| (kind.name(), split.train)).collect();
    let expected =
        [("best_of_n", 9), ("best_of_n_positive2unknown", 0), ("preamble", 3), ("preamble2unknown", 0)];
    assert_eq!(pairs, expected);
    assert_eq!(summary.verdicts.output, Verdicts { positive: 15, negative: 15, unknown: 0 });
}

#[test]
fn rows_are_those_of_the_contract() {
    let room = Room::new(&[Prompt::new("+a ?b")]);
    room.pairs(&["--test_size", "0"]).unwrap();
    let (chosen, rejected) = (says(Number::First, "a"), "Both are good: b");
    let expected = json!({
        "conversations": [{ "from": "human", "value": "Which answer to question 0?" }],
        "chosen": chosen, "rejected": rejected, "test_id": 0, "count": 1, "type": "None", "tag": "t",
        "chosen_id": 1, "pair_type": "best_of_n_positive2unknown",
    });
    let table = room.table("train");
    assert_eq!((table.len(), table[0].to_string()), (2, expected.to_string()));
    assert_eq!(table[1]["pair_type"], "preamble");
    let expected = json!({
        "prompt": [{ "role": "user", "content": "Which answer to question 0?" }],
        "chosen": [{ "role": "assistant", "content": chosen }],
        "rejected": [{ "role": "assistant", "content": rejected }],
    });
    assert_eq!(room.rows("out/train.jsonl")[0].to_string(), expected.to_string());
    assert!(room.table("validation").is_empty() && room.rows("out/validation.jsonl").is_empty());
}

#[test]
fn prompts_without_a_pair_say_why() {
    // The model named the answer that it was not told, so that there is no preamble.
    let unwilling = |samples: &str| Prompt { guide: says(Number::Second, "no"), ..Prompt::new(samples) };
    let same = Prompt { guide: "same".to_owned(), guide_reverse: "same".to_owned(), ..Prompt::new("?a") };
    let room =
        Room::new(&[unwilling("+a +b"), unwilling("-a ?b"), unwilling("?a"), same, unwilling("+a -b")]);
    let summary = room.pairs(&["--test_size", "0"]).unwrap();
    let row = |test_id: u64, reason: &str, [positive, negative, unknown]: [u64; 3]| {
        json!({ "test_id": test_id, "tag": "t", "split": "train", "reason": reason,
                "positive": positive, "negative": negative, "unknown": unknown })
    };
    let expected = [
        row(0, "all_positive", [2, 0, 0]),
        row(1, "all_negative", [0, 1, 1]),
        row(2, "unreadable", [0, 0, 1]),
        row(3, "equal_texts", [0, 0, 1]),
    ];
    assert_eq!(room.rows("out/unpaired.jsonl"), expected);
    assert!(Unpaired::ALL.iter().all(|reason| summary.unpaired[reason] == 1));
    assert_eq!((summary.equal_texts, room.table("train").len()), (1, 1));
}

#[test]
fn an_unreadable_hint_may_be_chosen_where_nothing_speaks_against_it() {
    // The one case in which the chosen judgement is not a right one; hints of `judge hint` are always
    // readable.
    let room = Room::new(&[Prompt { guide: "The first one is.".to_owned(), ..Prompt::new("-a") }]);
    let summary = room.pairs(&["--test_size", "0"]).unwrap();
    let table = room.table("train");
    assert_eq!((table.len(), table[0]["pair_type"].as_str()), (1, Some("preamble2unknown")));
    assert_eq!(table[0]["chosen"], "The first one is.");
    assert_eq!(reason(&table[0]["rejected"]), "told the opposite");
    assert_eq!(summary.verdicts.guide, Verdicts { unknown: 1, ..Verdicts::default() });
}

#[test]
fn long_reasons_are_cut_behind_a_full_stop_within_400_tokens() {
    let tokenizer = Tokenizer::from_folder(&fixtures().join("tiny/llama")).unwrap();
    let tokens = |text: &str| tokenizer.encode(text, false).unwrap().len();
    let sentences: Vec<String> =
        (0..300).map(|number| format!("It is right for {number} reasons.")).collect();
    let long = sentences.join(" ");
    assert!(tokens(&long) > 800);
    let endless = "and so ".repeat(300);
    let within = sentences[..3].join(" ");
    let room = Room::new(&[
        Prompt {
            guide: says(Number::First, &long),
            guide_reverse: says(Number::Second, &within),
            ..Prompt::new("+a")
        },
        Prompt { guide_reverse: says(Number::Second, &endless), ..Prompt::new("+a") },
        Prompt { guide: says(Number::First, &endless), ..Prompt::new("+a") },
        // Samples are never cut.
        Prompt {
            samples: vec![says(Number::First, &long), says(Number::Second, &endless)],
            ..Prompt::new("")
        },
    ]);
    let summary = room.pairs(&["--test_size", "0"]).unwrap();
    assert_eq!((summary.reasons_cut, summary.reasons_without_stop), (1, 2));
    let table = room.table("train");
    let kept = reason(&table[0]["chosen"]);
    let whole = (1..).find(|count| sentences[..*count].join(" ") == kept).unwrap();
    assert!(tokens(&kept) <= 400 && tokens(&sentences[..=whole].join(" ")) > 400);
    assert_eq!(table[0]["chosen"], says(Number::First, &kept), "it is written anew");
    assert_eq!(reason(&table[0]["rejected"]), within);
    // Without a full stop a judgement counts as wrong: the opposite's as before, the truth's so that there is
    // no pair.
    let ids: Vec<u64> = table.iter().map(|row| row["test_id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [0, 1, 3, 3]);
    assert_eq!(reason(&table[1]["rejected"]), endless);
    assert_eq!((reason(&table[2]["chosen"]), reason(&table[2]["rejected"])), (long, endless));
    assert_eq!(summary.verdicts.guide, Verdicts { positive: 3, negative: 1, unknown: 0 });

    let summary = room.pairs(&["--test_size", "0", "--max_reason_tokens", "100000"]).unwrap();
    assert_eq!((summary.reasons_cut, summary.reasons_without_stop), (0, 0));
}

#[test]
fn prompts_are_split_as_python_shuffles_them() {
    let room = Room::new(&vec![Prompt::new("+a -b"); 10]);
    let summary = room.pairs(&["--test_size", "0.2"]).unwrap();
    assert_eq!(summary.ids, BySplit { train: 8, validation: 2 });
    // order = list(range(10)); random.Random(2021).shuffle(order); order[:int((1 - 0.2) * 10)]
    let ids =
        |rows: Vec<Value>| -> Vec<u64> { rows.iter().map(|row| row["test_id"].as_u64().unwrap()).collect() };
    assert_eq!(ids(room.rows("out/judge_validation.jsonl")), [6, 8]);
    assert_eq!(ids(room.table("validation")), [6, 6, 8, 8]);
    assert_eq!(room.rows("out/validation.jsonl").len(), 4);
    // The rows of the prompts are as they were.
    assert_eq!(room.rows("out/judge_validation.jsonl")[0], room.rows("prompts.jsonl")[6]);
    let error = room.pairs(&["--test_size", "1"]).unwrap_err().to_string();
    assert_eq!(error, "test_size is 1, and must be at least 0 and below 1");
}

#[test]
fn splits_of_the_prompts_hold() {
    let prompt = |split| Prompt { split, ..Prompt::new("+a +b") };
    let splits = ["validation", "train", "validation", "train"].map(|split| prompt(Some(split)));
    let room = Room::new(&splits);
    let summary = room.pairs(&[]).unwrap();
    assert_eq!(summary.ids, BySplit { train: 2, validation: 2 });
    let ids: Vec<Value> =
        room.rows("out/judge_validation.jsonl").iter().map(|row| row["test_id"].clone()).collect();
    assert_eq!(ids, [0, 2]);

    let error = Room::new(&[prompt(Some("train")), prompt(Some("test"))]).pairs(&[]).unwrap_err().to_string();
    assert!(error.ends_with(r#"the split of test_id 1 is "test", not train or validation"#), "{error}");
    for mixed in [[prompt(Some("train")), prompt(None)], [prompt(None), prompt(Some("train"))]] {
        let error = Room::new(&mixed).pairs(&[]).unwrap_err().to_string();
        assert!(error.ends_with("some rows have a column split, and some have none"), "{error}");
    }
}

#[test]
fn other_prompts_than_the_judged_ones_are_refused() {
    let room = Room::new(&[Prompt::new("+a"), Prompt::new("+a")]);
    let prompts = room.rows("prompts.jsonl");
    room.write("prompts.jsonl", &prompts[..1]);
    let error = room.pairs(&[]).unwrap_err().to_string();
    assert!(error.ends_with("does not hold what was judged: test_id 1 is not there"), "{error}");
    let mut translated = prompts.clone();
    translated[1]["prompt"] = json!("Which?");
    room.write("prompts.jsonl", &translated);
    let error = room.pairs(&[]).unwrap_err().to_string();
    assert!(error.ends_with("prompt or chosen of test_id 1 differ from those of its judgements"), "{error}");
    // Prompts that were not judged, repeated and bad ones do no harm.
    let mut more = prompts.clone();
    more.push(prompts[0].clone());
    more.push(json!({ "prompt": "?" }));
    let mut another = prompts[0].clone();
    another["test_id"] = json!(77);
    more.push(another);
    room.write("prompts.jsonl", &more);
    let summary = room.pairs(&[]).unwrap();
    assert_eq!((summary.rejected, summary.not_judged), (2, 1));
    let BySplit { train, validation } = summary.ids;
    assert_eq!(train + validation + summary.rejected + summary.not_judged, more.len() as u64);
    assert_eq!(room.rows("out/rejects.jsonl")[0]["reason"], "an earlier row has test_id 0");
}

#[test]
fn untidy_files_are_refused() {
    let broken = |file: &str, change: &dyn Fn(&mut Vec<Value>)| {
        let room = Room::new(&[Prompt::new("+a -b"), Prompt::new("+a"), Prompt::new("+a")]);
        let name = format!("tidied/{file}.jsonl");
        let mut rows = room.rows(&name);
        change(&mut rows);
        room.write(&name, &rows);
        let error = room.pairs(&[]).unwrap_err();
        assert!(matches!(error, Error::Untidy { .. }), "{error}");
        error.to_string().split_once("leaves it: ").unwrap().1.to_owned()
    };
    let pop = |rows: &mut Vec<Value>| drop(rows.pop());
    assert_eq!(broken("output", &pop), "it goes on where output.jsonl ends");
    assert_eq!(broken("guide_reverse", &pop), "it ends before test_id 2 of output.jsonl");
    assert_eq!(
        broken("guide_reverse", &|rows| drop(rows.remove(1))),
        "it has test_id 2 where output.jsonl has 1"
    );
    assert_eq!(broken("guide", &|rows| rows.swap(0, 1)), "test_id 0 follows 1");
    assert_eq!(
        broken("guide_reverse", &|rows| rows[1]["chosen"] = json!(2)),
        "prompt or chosen of test_id 1 differ from output.jsonl"
    );
    let error = broken("output", &|rows| rows[0] = json!({ "prompt": "?" }));
    assert!(error.contains("output.jsonl, line 1: missing field"), "{error}");
}

/// Prompts with samples of all kinds, and hinted judgements that are written for the number that was told or are
/// unreadable.
fn any_prompts() -> impl Strategy<Value = Vec<Prompt>> {
    let text = prop_oneof![Just("same".to_owned()), "[a-c.。\"{}]{0,6}", any::<String>()];
    let number = prop_oneof![Just(Number::First), Just(Number::Second)];
    let sample = prop_oneof![
        4 => (number, text.clone()).prop_map(|(number, reason)| says(number, &reason)),
        1 => text.clone(),
    ];
    let hinted = |number: Number| {
        prop_oneof![
            3 => text.clone().prop_map(move |reason| says(number, &reason)),
            1 => "[a-c.。]{0,6}",
        ]
    };
    let hints = (hinted(Number::First), hinted(Number::Second));
    let prompt = (prop::collection::vec(sample, 1..9), hints);
    let prompt = prompt.prop_map(|(samples, (guide, guide_reverse))| Prompt {
        samples,
        guide,
        guide_reverse,
        split: None,
    });
    prop::collection::vec(prompt, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pairs_are_right_over_others_and_the_counts_add_up(prompts in any_prompts(), seed in 0_u64..9) {
        let room = Room::new(&prompts);
        let seed = seed.to_string();
        let words = ["--seed", seed.as_str(), "--test_size", "0.3", "--max_reason_tokens", "3"];
        let summary = room.pairs(&words).unwrap();
        let tables = ["train", "validation"].map(|split| room.table(split));
        for row in tables.iter().flatten() {
            prop_assert_ne!(&row["chosen"], &row["rejected"]);
            let named = verdict(row["chosen"].as_str().unwrap());
            let may_name_none = row["pair_type"] == "preamble2unknown" && named.is_none();
            prop_assert!(named == Some(Number::First) || may_name_none, "{}", row);
        }
        // No prompt is in both splits, and those for validation are the ones that are listed.
        let ids = |rows: &[Value]| -> BTreeSet<u64> {
            rows.iter().map(|row| row["test_id"].as_u64().unwrap()).collect()
        };
        let held_out = ids(&room.rows("out/judge_validation.jsonl"));
        prop_assert!(ids(&tables[0]).is_disjoint(&held_out) && ids(&tables[1]).is_subset(&held_out));
        prop_assert_eq!(summary.ids.validation, held_out.len() as u64);
        prop_assert_eq!(summary.ids.train + summary.ids.validation, prompts.len() as u64);
        // Samples are right, wrong or unreadable; prompts have pairs or stand in unpaired.jsonl.
        let all = |verdicts: Verdicts| verdicts.positive + verdicts.negative + verdicts.unknown;
        let samples: usize = prompts.iter().map(|prompt| prompt.samples.len()).sum();
        prop_assert_eq!(all(summary.verdicts.output), samples as u64);
        prop_assert_eq!(all(summary.verdicts.guide), prompts.len() as u64);
        prop_assert_eq!(all(summary.verdicts.guide_reverse), prompts.len() as u64);
        let paired: BTreeSet<u64> = tables.iter().flat_map(|table| ids(table)).collect();
        let unpaired = room.rows("out/unpaired.jsonl");
        prop_assert_eq!(paired.len() + unpaired.len(), prompts.len());
        prop_assert!(ids(&unpaired).is_disjoint(&paired));
        prop_assert_eq!(summary.unpaired.values().sum::<u64>(), unpaired.len() as u64);
        // The pairs of both forms are those counted.
        let train: u64 = summary.pairs.values().map(|split| split.train).sum();
        let validation: u64 = summary.pairs.values().map(|split| split.validation).sum();
        prop_assert_eq!((train, validation), (tables[0].len() as u64, tables[1].len() as u64));
        prop_assert_eq!(train, room.rows("out/train.jsonl").len() as u64);
        prop_assert_eq!(validation, room.rows("out/validation.jsonl").len() as u64);
    }
}
