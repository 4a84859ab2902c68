//! The shuffle and split of `data sft` equal CPython's.

use crate::common::fixture;
use collimate_data::Instruction;
use collimate_data::sft::{Collector, Part};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    rows: usize,
    seed: u64,
    test_size: f64,
    train: Vec<usize>,
    validation: Vec<usize>,
}

#[test]
fn equals_cpython() {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(fixture("split.json")).unwrap()).unwrap();
    assert!(cases.len() > 5);
    let folder = tempfile::tempdir().unwrap();
    for case in cases {
        let mut collector = Collector::new(folder.path()).unwrap();
        for row in 0..case.rows {
            let output = format!("{row}");
            let row = Instruction { instruction: String::new(), input: String::new(), output };
            assert!(collector.add(&row).unwrap());
        }
        let mut split = collector.split(case.seed, case.test_size).unwrap();
        for (part, expected) in [(Part::Train, &case.train), (Part::Validation, &case.validation)] {
            let found: Vec<usize> = (0..split.len(part))
                .map(|index| split.row(part, index).unwrap()["response"].as_str().unwrap().parse().unwrap())
                .collect();
            assert_eq!(&found, expected, "{} rows, seed {}", case.rows, case.seed);
        }
    }
}

#[test]
fn rows_without_an_answer_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path()).unwrap();
    let row = Instruction { instruction: "a".into(), input: String::new(), output: " \n".into() };
    assert!(!collector.add(&row).unwrap());
    assert!(collector.split(42, 0.1).unwrap().is_empty(Part::Validation));
}
