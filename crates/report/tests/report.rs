//! Reports of runs that are whole, hostile, torn or of no known kind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{HOSTILE, estimate, file, run, stage};
use collimate_report::{Error, Summary, write, write_steps};
use scraper::{ElementRef, Html, Selector};
use serde_json::{Value, json};

/// The page of a run, parsed as a browser would.
fn page(run: &Path) -> (Html, Summary) {
    let output = run.join("report.html");
    let summary = write(run, &output).unwrap();
    (Html::parse_document(&fs::read_to_string(output).unwrap()), summary)
}

fn all<'a>(page: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    page.select(&Selector::parse(selector).unwrap()).collect()
}

fn text(element: ElementRef) -> String {
    element.text().collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A folder `run` with the whole run in it.
fn whole() -> (tempfile::TempDir, Html, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    run(&root);
    let (page, summary) = page(&root);
    (folder, page, summary)
}

#[test]
fn the_page_has_its_parts_in_order() {
    let (_folder, page, summary) = whole();
    assert_eq!((summary.stages, summary.unfinished, summary.unreadable), (12, 1, 1));
    let headings = all(&page, "h1, h2, h3, h4").into_iter().map(|heading| {
        let level = heading.value().name()[1..].parse::<usize>().unwrap();
        format!("{}{}", "  ".repeat(level - 1), text(heading))
    });
    insta::assert_snapshot!(headings.collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_page_is_valid_and_accessible() {
    let (_folder, page, _) = whole();
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    assert_eq!(page.root_element().value().attr("lang"), Some("en"));
    assert_eq!(all(&page, "h1").len(), 1);
    let levels: Vec<u8> =
        all(&page, "h1, h2, h3, h4").iter().map(|heading| heading.value().name().as_bytes()[1]).collect();
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    for drawing in all(&page, "svg") {
        assert_eq!(drawing.value().attr("role"), Some("img"));
        assert!(drawing.value().attr("aria-label").is_some_and(|label| label.len() > 10));
        assert!(drawing.value().attr("viewbox").or(drawing.value().attr("viewBox")).is_some());
    }
    // Loss, accuracy, margin, learning rate, gradient norm; and of the policy seven.
    assert_eq!(all(&page, "svg").len(), 12);
    let ids: Vec<&str> = all(&page, "[id]").iter().filter_map(|element| element.value().id()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
    for link in all(&page, "a") {
        let target = link.value().attr("href").unwrap().strip_prefix('#').unwrap();
        assert!(ids.contains(&target), "{target}");
    }
}

#[test]
fn whatever_rows_hold_is_text() {
    let (_folder, page, _) = whole();
    assert!(all(&page, "script, img, iframe, object, embed, form, textarea").is_empty());
    for element in all(&page, "*") {
        for (name, value) in element.value().attrs() {
            assert!(!name.starts_with("on") && name != "src", "{name}={value}");
            assert!(name != "href" || value.starts_with('#') || value == "data:,", "{name}={value}");
        }
    }
    let policy = all(&page, "meta[http-equiv]")[0].value().attr("content").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'"), "{policy}");
    let shown = text(page.root_element());
    assert!(shown.contains(
        "</style></textarea><script>alert(1)</script><img src=x onerror=alert(2)> ␀ ␛[31m \u{fffd}abc"
    ));
    assert!(!shown.contains(['\0', '\u{1b}', '\u{202e}']));
}

#[test]
fn the_figures_are_those_of_the_manifests() {
    let (_folder, page, _) = whole();
    let results: Vec<String> = all(&page, "table.results tbody tr").into_iter().map(text).collect();
    let expected = [
        "The preferred answer is named 50.0 % 40.0 to 55.0 75.0 % 60.0 to 82.5 +25.0 points",
        "Both orders agree 60.0 % 48.0 to 66.0 60.0 % 48.0 to 66.0 +0.0 points",
        "Loss 2 1.600 to 2.200 1.500 1.200 to 1.650 −0.5000",
    ];
    assert_eq!(results[..3], expected.map(str::to_owned));
    let bars: Vec<String> = all(&page, "#step-4 .bars dl > div").into_iter().map(text).collect();
    assert_eq!(bars[0], "output 20 positive (66.7 %), 9 negative (30.0 %), 1 unknown (3.3 %)");
    assert_eq!(bars[3..5], ["best of n 18 1", "best of n positive over unknown 7 1"]);
    let reasons: Vec<String> = all(&page, "#step-1 .reasons tbody tr").into_iter().map(text).collect();
    assert!(reasons[0].ends_with("1 row 7") && reasons[1] == "identical 1 row 9", "{reasons:?}");
    let readings: Vec<String> =
        all(&page, "#stories article:first-of-type .chip").into_iter().map(text).collect();
    let (right, wrong, none) =
        ("positive: names answer 1", "negative: names answer 2", "unknown: names none");
    assert_eq!(readings, [right, wrong, none, right, wrong]);
}

#[test]
fn a_policy_is_shown_by_its_rewards_and_by_what_it_wrote() {
    let (_folder, page, _) = whole();
    assert_eq!(text(all(&page, "#step-12 h2")[0]), "Reinforcement learning (GRPO)");
    let phrase = text(*all(&page, ".steps .phrase").last().unwrap());
    assert_eq!(phrase, "grpo 20 steps, reward 0.2500 at first, 0.7500 at the end");
    let captions: Vec<String> = all(&page, "#step-12 figcaption").into_iter().map(text).collect();
    let reward = "Reward training 0.0500 → 0.9500 evaluation 0 → 0.6667 ± a standard deviation";
    assert_eq!(captions[0], reward);
    assert!(captions[1].starts_with("Reward: </style></textarea><script>"), "{captions:?}");
    assert_eq!(captions[2], "Divergence from the reference (KL) training 0.0010 → 0.0190");
    assert_eq!(captions[4], "Share of completions cut off training 50.0 % → 50.0 %");
    assert_eq!(captions.len(), 7);
    // A band where deviations were logged, and nowhere else.
    assert_eq!(all(&page, "#step-12 svg polygon").len(), 2);
    assert!(all(&page, "#step-5 svg polygon").is_empty());

    let headings: Vec<String> = all(&page, "#step-12 h4").into_iter().map(text).collect();
    assert_eq!(headings, [1, 20].map(|step| format!("Step {step} the best and the worst of 6 completions")));
    let labels: Vec<String> = all(&page, "#step-12 .answer > .label").into_iter().map(text).collect();
    assert!(labels[0].starts_with("reward 5.500 form 5, </style>"), "{labels:?}");
    assert!(labels[0].ends_with(" 0.5000, advantage 2.500, row 3, ended by length"), "{labels:?}");
    let best: Vec<&str> = labels.iter().map(|label| &label[..12]).collect();
    assert_eq!(best, ["reward 5.500", "reward 4.500", "reward 1.500", "reward 0.500"].repeat(2));
    let texts: Vec<String> = all(&page, "#step-12 .card:first-of-type dd").into_iter().map(text).collect();
    assert!(texts[0].starts_with("user: </style>"), "{texts:?}");
    assert!(text(all(&page, "#step-12 .warning")[0]).starts_with("Step 1,200: kl has been above its bound."));
}

#[test]
fn what_is_wrong_is_said() {
    let (_folder, page, _) = whole();
    let warnings: Vec<String> = all(&page, ".warning").into_iter().map(text).collect();
    let said = |words: &str| {
        assert!(warnings.iter().any(|warning| warning.contains(words)), "{words}: {warnings:?}")
    };
    said("torn/manifest.json cannot be read: EOF while parsing");
    said("This stage has not come to its end");
    said("damaged rows of output.jsonl that are left out here: 1");
    assert!(text(page.root_element()).contains("kept under names such as OUT~1, are not shown: 1"));
}

/// Every stage that the report knows, with a summary of any form and without one of its files.
#[test]
fn no_manifest_is_an_error() {
    let stages = [
        "data_clean",
        "data_sft",
        "data_rejected",
        "data_inspect",
        "train_sft",
        "train_kto",
        "train_reward",
        "train_grpo",
        "train_rloo",
        "train_ppo",
        "train_online_dpo",
        "eval_rewards",
        "generate",
        "eval_loss",
        "eval_accuracy",
        "eval_compare",
        "judge_prompts",
        "judge_translate",
        "judge_sample",
        "judge_hint",
        "judge_tidy",
        "judge_pairs",
        "",
        HOSTILE,
    ];
    let odd = json!({ "value": "x", "interval": null });
    let summaries = [
        Value::Null,
        json!([1]),
        json!("text"),
        json!({}),
        json!({ "rows": 3, "all": { "base": [] }, "groups": "x" }),
        json!({ "loss": odd, "verdicts": [3], "pairs": { "x": "y" }, "unpaired": null, "positive": -1.5 }),
        json!({ "rows": [1, { "prompt": 3, "base": "x" }], "groups": [{ "by": 1 }, 2],
                "all": odd, "ids": [[]] }),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (number, summary) in summaries.iter().enumerate() {
        let root = folder.path().join(number.to_string());
        for (number, name) in stages.iter().enumerate() {
            stage(&root.join(number.to_string()), name, "00", &["", "/", "run"], Some(summary.clone()));
        }
        let (page, found) = page(&root);
        assert!(page.errors.is_empty(), "{:?}", page.errors);
        assert_eq!(found.stages, stages.len());
        let shown = text(page.root_element());
        assert!(shown.contains("cleaned_data.json is missing") && shown.contains("metrics.jsonl is missing"));
    }
}

#[test]
fn one_stage_alone_has_a_report_too() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lone");
    stage(&root, "data_sft", "00", &["a.json"], Some(json!({ "train": 1234, "validation": 5 })));
    file(&root, "sft_train.jsonl", "{\"prompt\": \"Hi\", \"response\": \"Ho\"}\n");
    let (page, summary) = page(&root);
    assert_eq!((summary.stages, summary.unfinished), (1, 0));
    assert_eq!(text(all(&page, "h1")[0]), "lone");
    assert_eq!(text(all(&page, ".steps .phrase")[0]), "1,234 rows to train on, 5 to measure on");
    assert_eq!(text(all(&page, "#step-1 .card dd")[1]), "Ho");
}

#[test]
fn rewards_of_a_file_are_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lone");
    let figures = |name: &str, mean: f64| json!({ "name": name, "mean": estimate(mean), "std": 0.5, "min": 0.0, "max": 1.0 });
    let rewards = [figures("exact", 0.5), figures("length", 0.25)];
    let summary =
        json!({ "reward": figures("reward", 0.5), "rewards": rewards, "prompts": 2, "completions": 8 });
    stage(&root, "eval_rewards", "00", &["a.jsonl"], Some(summary));
    let (page, _) = page(&root);
    let phrase = text(all(&page, ".steps .phrase")[0]);
    assert_eq!(phrase, "2 prompts, 8 completions, mean reward 0.5000");
    let cells: Vec<String> = all(&page, "#step-1 .counts td").into_iter().map(text).collect();
    assert_eq!(cells[..3], ["exact", "0.5000 (0.4000 to 0.5500)", "0.5000"]);
}

#[test]
fn the_same_run_gives_the_same_page() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    run(&root);
    let write = |name: &str| {
        let output = folder.path().join(name);
        write(&root, &output).unwrap();
        fs::read(output).unwrap()
    };
    assert!(write("a.html") == write("b.html"));
}

/// As a recipe reports: its steps alone, in its order, with folders of their own.
#[test]
fn named_folders_are_shown_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let [root, outside] = ["root", "far/away/elsewhere"].map(|name| folder.path().join(name));
    stage(&root.join("second"), "data_sft", "00", &[], Some(json!({})));
    stage(&outside, "data_clean", "01", &[], Some(json!({})));
    stage(&root.join("other"), "generate", "02", &[], Some(json!({})));
    let folders = [outside.clone(), root.join("second"), root.join("not_yet")];
    let output = root.join("report.html");
    let summary = write_steps("A recipe", &folders, &output).unwrap();
    assert_eq!((summary.stages, summary.unfinished, summary.unreadable), (2, 0, 0));
    let page = Html::parse_document(&fs::read_to_string(&output).unwrap());
    assert_eq!(text(all(&page, "h1")[0]), "A recipe");
    let names: Vec<String> = all(&page, ".steps code").into_iter().map(text).collect();
    assert_eq!(names, ["away/elsewhere", "second"]);

    // A page that is up to date is not written again.
    let written = || fs::metadata(&output).unwrap().modified().unwrap();
    let before = written();
    std::thread::sleep(std::time::Duration::from_millis(20));
    write_steps("A recipe", &folders, &output).unwrap();
    assert_eq!(written(), before);
    write_steps("Another", &folders, &output).unwrap();
    assert_ne!(written(), before);
    let error = write_steps("None", &folders[2..], &output).unwrap_err();
    assert!(matches!(error, Error::NoStages { .. }), "{error}");
}

#[test]
fn where_nothing_was_run_there_is_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("report.html");
    let error = write(folder.path(), &output).unwrap_err();
    assert!(matches!(error, Error::NoStages { .. }), "{error}");
    let error = write(&folder.path().join("absent"), &output).unwrap_err();
    assert!(error.to_string().contains("cannot read") && error.to_string().contains("absent"), "{error}");
    assert!(!output.exists());
}
