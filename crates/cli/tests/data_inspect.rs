//! `data inspect` as a person meets it.

use crate::support::{Room, tiny};

#[test]
fn a_person_reads_tables_and_gets_a_page() {
    let room = Room::new();
    let row = |n: usize, kind: &str, split: &str| {
        format!(
            r#"{{"prompt": "<b>Double {n}.</b> {split}", "chosen": "{}", "rejected": "No.", {}}}"#,
            2 * n,
            format_args!(r#""test_id": {n}, "pair_type": "{kind}", "chosen_id": {}"#, 1 + n % 2),
        )
    };
    let rows = |range: std::ops::Range<usize>, split: &str| {
        range.map(|n| row(n, ["best_of_n", "preamble"][n % 2], split)).collect::<Vec<_>>().join("\n")
    };
    room.write("train.jsonl", &rows(0..1_200, "train"));
    room.write("validation.jsonl", &rows(1_198..1_220, "validation"));
    let words = format!(
        "data inspect --dataset train.jsonl --dataset validation.jsonl --model_name_or_path {}",
        tiny().display()
    );
    let said = room.run(&words);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    insta::assert_snapshot!(said.stdout);
    let page = room.read("results/inspect/inspect.html");
    assert!(page.contains("&lt;b&gt;Double 0.&lt;&#x2f;b&gt; train") && !page.contains("<b>"), "{page}");
}
