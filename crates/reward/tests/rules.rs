//! Rewards by rule: hard cases of each, and rows for which there is no answer.

use crate::common::{Case, score};
use collimate_judge::{Kind, Language, Number, Question, Template, judgement};
use collimate_reward::{Error, Result, Reward, Spec};
use collimate_run::atomic;
use serde_json::{Value, json};

/// What a rule, as it is written in settings, says of a completion of a row.
fn rule(spec: &str, fields: Value, completion: &str) -> Result<f64> {
    let Spec::Rule { name, argument } = spec.parse().unwrap() else { panic!("{spec}") };
    let mut rule = Spec::rule(name, &argument)?;
    assert_eq!(rule.name(), name);
    score(&mut rule, &[Case::new(7, fields, completion)]).map(|rewards| rewards[0])
}

/// The reward of each completion, where all rows are the same.
fn expect(spec: &str, fields: &Value, cases: &[(&str, f64)]) {
    for (completion, expected) in cases {
        assert_eq!(rule(spec, fields.clone(), completion).unwrap(), *expected, "{spec}: {completion:?}");
    }
}

/// Why a row has no reward.
fn reason(spec: &str, fields: Value) -> String {
    match rule(spec, fields, "#### 1") {
        Err(Error::Row { row: 7, reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Why a reward cannot be used.
fn unusable(spec: &str) -> String {
    match rule(spec, json!({}), "") {
        Err(Error::Unusable { spec: named, reason }) if named == spec => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn exact_takes_the_final_answer_and_nothing_else() {
    expect(
        "exact",
        &json!({ "answer": "18" }),
        &[
            ("So it is\n#### 18", 1.0),
            ("#### 17, no:\n####18  \n", 1.0),
            ("#### 18\n#### 19", 0.0),
            ("#### 18\nThat is all.", 1.0),
            ("#### 18 eggs", 0.0),
            ("#### 18.0", 0.0),
            ("####\n18", 0.0),
            ("18", 0.0),
            ("", 0.0),
            (r"$\boxed{18}$", 1.0),
            (r"\boxed{17} and then \boxed{ 18 }.", 1.0),
            (r"\boxed{18} and then \boxed{17", 1.0),
            (r"\boxed{\boxed{18}}", 1.0),
            (r"\fbox{18} boxed{18}", 0.0),
            (r"\boxed{}", 0.0),
            // Whichever begins last.
            ("#### 17\n\\boxed{18}", 1.0),
            ("\\boxed{17}\n#### 18", 1.0),
            (r"} \boxed{18} {", 1.0),
        ],
    );
    expect(
        "exact",
        &json!({ "answer": r"\frac{1}{2}" }),
        &[(r"\boxed{\frac{1}{2}}", 1.0), (r"\boxed{\dfrac{1}{2}}", 0.0), (r"\boxed{\frac{1}{2}", 0.0)],
    );
    // Braces that are signs need no other.
    expect("exact", &json!({ "answer": r"\left\{1\right." }), &[(r"\boxed{\left\{1\right.}", 1.0)]);
    // The row may hold a whole solution, or a number.
    expect("exact", &json!({ "answer": "9 and 9 make <<9+9=18>>18.\n#### 18" }), &[("#### 18", 1.0)]);
    for answer in [json!(18), json!(18.0)] {
        expect("exact", &json!({ "answer": answer }), &[("#### 18", 1.0), ("#### 18.0", 0.0)]);
    }
    expect("exact", &json!({ "answer": 0.5 }), &[("#### 0.5", 1.0)]);
}

#[test]
fn an_answer_of_a_hundred_thousand_open_boxes_takes_no_time() {
    expect("exact", &json!({ "answer": "1" }), &[(&r"\boxed{".repeat(100_000), 0.0)]);
}

#[test]
fn numbers_are_compared_as_numbers() {
    expect(
        "numeric",
        &json!({ "answer": "#### 1,018" }),
        &[
            ("#### 1018", 1.0),
            ("#### $1,018.00", 1.0),
            (r"\boxed{\$1{,}018}", 1.0),
            ("#### -1018", 0.0),
            ("#### 1018 eggs", 0.0),
            ("1018", 0.0),
        ],
    );
    expect(
        "numeric",
        &json!({ "answer": 0.1 }),
        &[("#### 1/10", 1.0), ("#### 10 %", 1.0), ("#### 0.10001", 0.0)],
    );
}

#[test]
fn numbers_in_columns_may_be_tiny_and_huge() {
    expect("numeric", &json!({ "answer": 1e-7 }), &[("#### 0.0000001", 1.0), ("#### 0", 0.0)]);
    expect("numeric", &json!({ "answer": 1e20 }), &[("#### 100000000000000000000", 1.0), ("#### 1", 0.0)]);
    expect("numeric", &json!({ "answer": -2.5 }), &[(r"\boxed{-\frac52}", 1.0)]);
    for answer in [json!(f64::MIN_POSITIVE), json!(f64::MAX)] {
        expect("numeric", &json!({ "answer": answer }), &[("#### 1", 0.0)]);
    }
}

#[test]
fn a_row_without_an_answer_is_an_error_with_its_number() {
    for spec in ["exact", "numeric"] {
        assert_eq!(reason(spec, json!({})), "it has no column answer");
        assert_eq!(
            reason(spec, json!({ "answer": null })),
            "its column answer is neither a text nor a number"
        );
        assert_eq!(reason(spec, json!({ "answer": " " })), "its column answer is empty");
    }
    let expected = r#"its answer "eighteen" is not a number that can be compared"#;
    assert_eq!(reason("numeric", json!({ "answer": "eighteen" })), expected);
    assert_eq!(reason("verdict", json!({})), "it has no column chosen");
    assert!(reason("verdict", json!({ "chosen": 3 })).starts_with("its column chosen: "));
}

#[test]
fn a_pattern_matches_anywhere() {
    expect("regex:^a:.b$", &json!({}), &[("a: b", 1.0), ("xa: b", 0.0)]);
    expect(
        "regex:(?s)<think>.*</think>",
        &json!({}),
        &[("<think>\n</think> 4", 1.0), ("</think><think>", 0.0)],
    );
    // What would take a backtracking matcher for ever.
    expect("regex:^(a+)+$", &json!({}), &[(&("a".repeat(50_000) + "b"), 0.0)]);
    assert!(unusable("regex:(").contains("unclosed group"));
}

#[test]
fn json_is_the_whole_completion_or_its_only_block() {
    expect(
        "json",
        &json!({}),
        &[
            (r#" {"a": [1, "}"]} "#, 1.0),
            ("[]", 1.0),
            ("3", 1.0),
            ("", 0.0),
            ("{'a': 1}", 0.0),
            ("{} {}", 0.0),
            ("Here:\n```json\n{\"a\": 1}\n```\nDone.", 1.0),
            ("```\n{}\n```", 1.0),
            ("```JSON\r\n{}\r\n```", 1.0),
            ("```python\n{}\n```", 0.0),
            ("```json\n{}", 0.0),
            ("```json\n{}\n```\n```json\n{}\n```", 0.0),
            ("Here: {}", 0.0),
            ("{\"a\": NaN}", 0.0),
            (&"[".repeat(100_000), 0.0),
        ],
    );
}

#[test]
fn json_fits_its_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schema.json");
    let spec = format!("json:{}", path.display());
    let schema = json!({
        "type": "object", "required": ["score"], "additionalProperties": false,
        "properties": { "score": { "$ref": "#/$defs/score" } }, "$defs": { "score": { "type": "integer", "maximum": 9 } },
    });
    atomic::write(&path, schema.to_string().as_bytes()).unwrap();
    expect(
        &spec,
        &json!({}),
        &[
            (r#"{"score": 9}"#, 1.0),
            (r#"{"score": 10}"#, 0.0),
            (r#"{"score": 9, "a": 1}"#, 0.0),
            ("[9]", 0.0),
            ("score", 0.0),
        ],
    );
    for (schema, expected) in [
        ("{", "it is not JSON"),
        (r#"{"type": "objekt"}"#, "it is no JSON Schema"),
        (r#"{"$ref": "https://example.org/schema.json"}"#, "it is no JSON Schema"),
    ] {
        atomic::write(&path, schema.as_bytes()).unwrap();
        assert!(unusable(&spec).starts_with(expected), "{schema}: {}", unusable(&spec));
    }
    assert!(!unusable("json:no/such/file.json").is_empty());
}

#[test]
fn a_verdict_is_held_against_the_row() {
    expect(
        "verdict",
        &json!({ "chosen": 2 }),
        &[
            (r#"{"reason": "…", "better_answer": 2}"#, 1.0),
            (r#"I think {"reason": "…", "better_answer": "2""#, 1.0),
            (r#"{"reason": "…", "better_answer": 1}"#, 0.0),
            ("The second.", 0.0),
        ],
    );
}

#[test]
fn the_form_of_a_verdict_is_that_of_its_prompt() {
    for language in Language::ALL {
        let question = Question { q: "Q?", r1: "a", r2: "b", told: None };
        let prompt = Template::built_in(Kind::Judge, language).render(&question);
        let chat = json!([{ "role": "system", "content": "Hi" }, { "role": "user", "content": prompt }]);
        for prompt in [json!(prompt), chat] {
            for written in Language::ALL {
                let expected = if written == language { 1.0 } else { 0.0 };
                let completion = judgement(written, "because", Number::First);
                expect("verdict_format", &json!({ "prompt": prompt }), &[(&completion, expected)]);
            }
        }
    }
}

#[test]
fn a_length_counts_characters() {
    expect(
        "length:4-8",
        &json!({}),
        &[
            ("", 0.0),
            (" a ", 0.25),
            ("你好吗", 0.75),
            ("你好吗？", 1.0),
            ("12345678\n", 1.0),
            ("1234567890123456", 0.5),
        ],
    );
    expect("length:-8", &json!({}), &[("", 1.0), ("1234567890123456", 0.5)]);
    expect("length:4-", &json!({}), &[("12", 0.5), ("1234567890123456", 1.0)]);
    for range in ["8-4", "-", "4", "a-b", "4-8-9", "1.5-2"] {
        assert!(
            unusable(&format!("length:{range}")).starts_with("the range of characters must be "),
            "{range}"
        );
    }
}

#[test]
fn what_is_repeated_is_taken_off() {
    // Trigrams: a b a, b a b, a b a, b a b: two of four.
    expect("repetition", &json!({}), &[("a b A B a b", -0.5), ("a b c d", 0.0), ("a a", 0.0), ("", 0.0)]);
    expect("repetition:1", &json!({}), &[("a a\na a", -0.75), ("好好 好", 1.0 / 3.0 - 1.0)]);
    for size in ["0", "-1", "x"] {
        assert!(unusable(&format!("repetition:{size}")).starts_with("the number of words"), "{size}");
    }
}
