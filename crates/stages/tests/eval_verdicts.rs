//! `eval accuracy` in its form for verdicts, on a tiny model: both orders, base and tuned, the files, stops.

use crate::common;
use crate::common::judge::{Room, prompt_row};
use crate::common::{config, run, run_until_samples, warned};
use collimate_judge::{Number, verdict};
use collimate_model::{TemplateOptions, Tokenizer};
use collimate_run::Stage;
use collimate_stages::Error;
use collimate_stages::eval_accuracy::verdicts::Summary as Verdicts;
use collimate_stages::eval_accuracy::{EvalAccuracy, Method, Summary};
use collimate_stages::generate::Generate;
use collimate_stages::judge::sample::JudgeSample;
use serde_json::{Value, json};

const JUDGEMENTS: &str = "out/judgements.jsonl";

fn stage(room: &Room, output: &str, words: &[&str]) -> EvalAccuracy {
    let paths = room.flags(&[("dataset", "prompts.jsonl"), ("output_dir", output)]);
    let words = ["--max_new_tokens=60", "--constrained"].iter().chain(words).copied();
    EvalAccuracy::new(config(&words.chain(paths.iter().map(String::as_str)).collect::<Vec<_>>()), Some(2))
}

/// Without the settings of judgements that are short and surely readable.
fn bare_stage(room: &Room, words: &[&str]) -> EvalAccuracy {
    let paths = room.flags(&[("dataset", "prompts.jsonl"), ("output_dir", "out")]);
    let words = words.iter().copied().chain(paths.iter().map(String::as_str));
    EvalAccuracy::new(config(&words.collect::<Vec<_>>()), Some(2))
}

fn bare(room: &Room, words: &[&str]) -> Result<Verdicts, Error> {
    verdicts(&bare_stage(room, words))
}

fn settings_of(room: &Room, words: &[&str]) -> Value {
    bare_stage(room, words).settings()
}

fn measure(room: &Room, words: &[&str]) -> Result<Verdicts, Error> {
    verdicts(&stage(room, "out", words))
}

fn verdicts(stage: &EvalAccuracy) -> Result<Verdicts, Error> {
    let measured = match run(stage)?.summary {
        Summary::Verdicts(summary) => Some(*summary),
        Summary::Likelihood(_) | Summary::Rewards(_) => None,
    };
    Ok(measured.unwrap())
}

fn tuned(room: &Room) -> String {
    format!("--tuned={}", room.adapter())
}

#[test]
fn both_models_judge_every_pair_in_both_orders() {
    let room = Room::new((0..6).map(prompt_row));
    let summary = measure(&room, &[&tuned(&room)]).unwrap();
    assert_eq!((summary.method, summary.all.pairs, summary.rejected), (Method::Verdict, 6, 0));
    let rows = room.rows(JUDGEMENTS);
    assert_eq!(rows.len(), 24);
    for (place, row) in rows.iter().enumerate() {
        let asked = prompt_row(place / 4);
        let (model, order) = (["base", "tuned"][place / 2 % 2], place % 2 + 1);
        let chosen = asked["chosen"].as_u64().unwrap();
        let chosen = if order == 1 { chosen } else { 3 - chosen };
        let expected = json!([asked["test_id"], asked["tag"], order, model, chosen]);
        assert_eq!(json!([row["test_id"], row["tag"], row["order"], row["model"], row["chosen"]]), expected);
        let named = verdict(row["gen"].as_str().unwrap()).map(u8::from);
        assert_eq!(row["verdict"], json!(named));
        assert_eq!(row["right"], json!(named.map(u64::from) == Some(chosen)));
    }
    // The figures are those of the rows.
    let share = |model: &str, what: &dyn Fn(&Value) -> bool| {
        let rows: Vec<_> = rows.iter().filter(|row| row["model"] == model).collect();
        rows.iter().filter(|row| what(row)).count() as f64 / rows.len() as f64
    };
    let models = [("base", &summary.all.base), ("tuned", &summary.all.tuned.as_ref().unwrap().accuracy)];
    for (model, accuracy) in models {
        assert_eq!(accuracy.accuracy.value, share(model, &|row| row["right"] == true), "{model}");
        assert_eq!(accuracy.unreadable.value, share(model, &|row| row["verdict"].is_null()), "{model}");
    }
    let groups: Vec<(&str, &str, u64)> =
        summary.groups.iter().map(|group| (&*group.by, &*group.name, group.figures.pairs)).collect();
    let expected = [
        ("tag", "large", 3),
        ("tag", "small", 3),
        ("language", "en", 3),
        ("language", "zh", 3),
        ("length", "below 64", 6),
    ];
    assert_eq!(groups, expected);
}

/// In the second order the model reads what the row of a pair with its answers exchanged would ask.
#[test]
fn the_second_order_is_the_pair_with_its_answers_exchanged() {
    let room = Room::new((0..4).map(prompt_row));
    measure(&room, &[]).unwrap();
    let exchanged = Room::new((0..4).map(|number| {
        let mut row = prompt_row(number);
        let answers = (row["r1"].take(), row["r2"].take());
        (row["r2"], row["r1"]) = answers;
        row["chosen"] = (3 - row["chosen"].as_u64().unwrap()).into();
        row["prompt"] = common::judge::prompt(&row).into();
        row
    }));
    measure(&exchanged, &[]).unwrap();
    let [rows, others] = [room.rows(JUDGEMENTS), exchanged.rows(JUDGEMENTS)];
    // The tiny model minds the order.
    assert!(rows.chunks(2).any(|pair| pair[0]["gen"] != pair[1]["gen"]));
    for (pair, other) in rows.chunks(2).zip(others.chunks(2)) {
        for (order, row) in pair.iter().enumerate() {
            for column in ["gen", "verdict", "right", "chosen"] {
                assert_eq!(row[column], other[1 - order][column]);
            }
        }
    }
}

fn warnings(room: &Room) -> Vec<String> {
    warned(&stage(room, "out", &["--max_new_tokens=4"])).1
}

#[test]
fn a_prompt_that_is_not_the_templates_is_warned_of_once() {
    assert_eq!(warnings(&Room::new((0..4).map(prompt_row))), [""; 0]);
    let found = warnings(&Room::new((0..4).map(|number| {
        let mut row = prompt_row(number);
        if number > 0 {
            row["prompt"] = format!("{} Be strict.", row["prompt"].as_str().unwrap()).into();
        }
        row
    })));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("row 2 has a prompt that the template would not make"), "{found:?}");
}

#[test]
fn the_first_order_is_what_judge_sample_asks() {
    let room = Room::new((0..3).map(prompt_row));
    measure(&room, &[]).unwrap();
    let paths = room.flags(&[("dataset", "prompts.jsonl"), ("output_dir", "samples")]);
    let words = ["--n=1", "--top_k=1", "--constrained", "--max_new_tokens=60"];
    let words: Vec<&str> = words.into_iter().chain(paths.iter().map(String::as_str)).collect();
    run(&JudgeSample::new(config(&words), Some(2))).unwrap();
    let judged = room.rows(JUDGEMENTS);
    let judged: Vec<_> = judged.iter().filter(|row| row["order"] == 1).map(|row| &row["gen"]).collect();
    assert_eq!(judged, room.rows("samples/output.jsonl").iter().map(|row| &row["gen"]).collect::<Vec<_>>());
}

#[test]
fn a_tuned_model_of_its_own_judges_too_and_nothing_parts_a_model_from_itself() {
    let mut long = prompt_row(9);
    long["prompt"] = "egg ".repeat(6_000).into();
    let rows: Vec<Value> = (0..4).map(prompt_row).chain([long, json!({ "q": "?" })]).collect();
    let room = Room::new(rows);
    let itself = format!("--tuned={}", room.path("model").display());
    let summary = measure(&room, &[&itself]).unwrap();
    assert_eq!((summary.all.pairs, summary.rejected), (4, 2));
    let change = summary.all.tuned.unwrap();
    assert_eq!(change.accuracy, summary.all.base);
    assert_eq!((change.both_orders_test.p_value, change.first_order_test.p_value), (1.0, 1.0));
    assert_eq!(room.rows(JUDGEMENTS).len(), 16);
    let error = measure(&room, &["--strict"]).unwrap_err().to_string();
    assert!(error.contains("prompts.jsonl, line 6: missing field"), "{error}");
}

#[test]
fn neither_batches_nor_stops_change_a_byte() {
    for words in [&[][..], &["--method=verdict_likelihood"]] {
        let room = Room::new((0..6).map(prompt_row));
        let tuned = tuned(&room);
        let words = [words, &[&tuned]].concat();
        run(&stage(&room, "whole", &words)).unwrap();
        let parts = stage(&room, "parts", &[&words[..], &["--per_device_eval_batch_size=2"]].concat());
        for _ in 0..2 {
            assert_eq!(run_until_samples(&parts, 4).unwrap_err().to_string(), "stopped before the end");
        }
        run(&parts).unwrap();
        for name in ["judgements.jsonl", "eval_accuracy.json"] {
            assert_eq!(room.bytes(&format!("parts/{name}")), room.bytes(&format!("whole/{name}")), "{name}");
        }
    }
}

/// The reason that is written is that of the greedy judgement, whose number is then measured.
#[test]
fn the_number_after_a_written_reason_is_the_likelier_one() {
    let room = Room::new((0..6).map(prompt_row));
    let longer = ["--max_new_tokens=200", &tuned(&room)];
    measure(&room, &longer).unwrap();
    let texts = room.rows(JUDGEMENTS);
    let summary = measure(&room, &[&longer[..], &["--method=verdict_likelihood"]].concat()).unwrap();
    assert_eq!(summary.method, Method::VerdictLikelihood);
    let mut readable = 0;
    for (row, text) in room.rows(JUDGEMENTS).iter().zip(&texts) {
        assert_eq!((&row["gen"], row["verdict"].is_null()), (&text["gen"], text["verdict"].is_null()));
        let probability = row.get("first_probability").and_then(Value::as_f64);
        assert_eq!(row["verdict"], json!(probability.map(|first| if first > 0.5 { 1 } else { 2 })));
        readable += usize::from(probability.is_some());
    }
    assert!(readable > 12, "{readable}");
}

/// A row that only the second number's place is too long for is set aside by the log-probs, too.
#[test]
fn a_row_too_long_for_its_number_is_set_aside() {
    let mut long = prompt_row(9);
    long["prompt"] = "egg ".repeat(1_000).into();
    let room = Room::new([prompt_row(0), long]);
    let words = ["--method=verdict_likelihood", "--reason=none", "--max_length=1000"];
    let summary = bare(&room, &words).unwrap();
    assert_eq!((summary.all.pairs, summary.rejected), (1, 1));
    let rejects = room.rows("out/rejects.jsonl");
    assert!(
        rejects[0].to_string().contains("the prompt with a verdict is longer than max_length"),
        "{rejects:?}"
    );
    assert!(bare(&room, &[&words[..], &["--strict"]].concat()).is_err());
    let words = ["--max_length=1000", "--max_new_tokens=60"];
    let summary = bare(&room, &words).unwrap();
    assert_eq!((summary.all.pairs, summary.rejected), (1, 1));
}

#[test]
fn what_a_method_does_not_heed_is_refused_by_name() {
    let room = Room::new([prompt_row(0)]);
    let cases: [(&[&str], &str); 4] = [
        (
            &["--method=likelihood", "--reason=none", "--constrained", "--memory=1GB"],
            "likelihood, which heeds no reason, constrained",
        ),
        (&["--dataset_format=chosen_rejected"], "verdict, which heeds no dataset_format"),
        (&["--max_tokens_per_micro_batch=9"], "verdict, which heeds no max_tokens_per_micro_batch"),
        (
            &["--method=verdict_likelihood", "--reason=none", "--max_new_tokens=9", "--constrained"],
            "verdict_likelihood with reason none, which heeds no constrained",
        ),
    ];
    for (words, expected) in cases {
        let error = bare(&room, words).unwrap_err().to_string();
        assert_eq!(error, format!("the method is {expected}"));
    }
    // What is not heeded, or is at its default, is no other result.
    let settings = |words: &[&str]| settings_of(&room, words);
    assert_eq!(settings(&["--beta=0.1", "--tuned=x"]), settings(&["--method=verdict"]));
    assert_ne!(settings(&["--max_new_tokens=9"]), settings(&[]));
}

/// Of a tokenizer that joins no number with the space before it.
#[test]
fn the_probability_of_a_number_is_that_of_its_token() {
    let room = Room::with_model("qwen2", [prompt_row(0)]);
    bare(&room, &["--method=verdict_likelihood", "--reason=none"]).unwrap();
    let found = room.rows(JUDGEMENTS)[0]["first_probability"].as_f64().unwrap();
    let tokenizer = Tokenizer::from_folder(&room.path("model")).unwrap();
    let message = json!({ "role": "user", "content": prompt_row(0)["prompt"] });
    let options = TemplateOptions { add_generation_prompt: true, ..Default::default() };
    let asked = tokenizer.chat_template().unwrap().render(&[message], &options).unwrap();
    let prompt = format!("--prompt={asked}{{\"better_answer\": ");
    let [first, second] = ["--choice=1", "--choice=2"].map(|choice| {
        let words = [&prompt, choice, "--prompt_format=plain", "--logprobs=0", "--max_new_tokens=1"];
        let paths = room.flags(&[("output_dir", "generated")]);
        let words: Vec<&str> = words.into_iter().chain(paths.iter().map(String::as_str)).collect();
        run(&Generate::new(config(&words), None, Some(2))).unwrap();
        room.rows("generated/output.jsonl")[0]["logprobs"][0]["logprob"].as_f64().unwrap()
    });
    let expected = 1.0 / (1.0 + (second - first).exp());
    assert!((found - expected).abs() < 1e-5 && (found - 0.5).abs() > 1e-3, "{found} and {expected}");
}

#[test]
fn a_verdict_without_a_reason_needs_no_text() {
    let room = Room::new((0..4).map(prompt_row));
    let words = ["--method=verdict_likelihood", "--reason=none"];
    let summary = bare(&room, &words).unwrap();
    assert_eq!((summary.all.pairs, summary.all.base.unreadable.value, summary.effort.tokens), (4, 0.0, 0));
    for row in room.rows(JUDGEMENTS) {
        assert!(row["first_probability"].is_f64() && row.get("gen").is_none(), "{row}");
        let number = Number::try_from(row["verdict"].as_u64().unwrap() as u8).unwrap();
        assert_eq!(number == Number::First, row["first_probability"].as_f64().unwrap() > 0.5);
    }
    let languages = summary.groups.iter().filter(|group| group.by == "language");
    let languages: Vec<_> = languages.map(|group| (&*group.name, group.figures.pairs)).collect();
    assert_eq!(languages, [("en", 2), ("zh", 2)]);
}
