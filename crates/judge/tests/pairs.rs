//! Pairs: worked examples of every rule, and CPython's own pairs over many prompts.

use std::collections::BTreeSet;

use collimate_judge::{Judged, Pair, PairType, Paired, Reading, Texts, Unpaired};
use collimate_run::random::MersenneTwister;
use serde::Deserialize;

/// Texts by reading: `+a -b ?c` are a right one, a wrong one and an unreadable one.
fn texts(words: &str) -> Texts {
    let mut texts = Texts::default();
    for word in words.split_whitespace() {
        let (sign, text) = word.split_at(1);
        let reading = match sign {
            "+" => Reading::Positive,
            "-" => Reading::Negative,
            _ => Reading::Unknown,
        };
        texts.add(reading, text.to_owned());
    }
    texts
}

fn paired(output: &str, guide: &str, guide_reverse: &str) -> Paired {
    let judged = Judged { output: texts(output), guide: texts(guide), guide_reverse: texts(guide_reverse) };
    judged.pair(&mut MersenneTwister::new(2021))
}

/// The pairs as `type chosen>rejected`.
fn shown(output: &str, guide: &str, guide_reverse: &str) -> Vec<String> {
    let show =
        |Pair { pair_type, chosen, rejected }: &Pair| format!("{} {chosen}>{rejected}", pair_type.name());
    paired(output, guide, guide_reverse).pairs.iter().map(show).collect()
}

#[test]
fn right_samples_stand_over_wrong_ones() {
    assert_eq!(shown("+a -b", "", ""), ["best_of_n a>b"]);
    assert_eq!(shown("-b +a", "", ""), ["best_of_n a>b"]);
}

#[test]
fn at_most_three_pairs_in_the_order_after_the_shuffle() {
    // random.seed(2021); right = list("abcde"); random.shuffle(right); wrong = list("vwxyz");
    // random.shuffle(wrong)
    assert_eq!(
        shown("+a +b +c +d +e -v -w -x -y -z", "", ""),
        ["best_of_n b>w", "best_of_n e>v", "best_of_n a>x"]
    );
    // As many as both lists have.
    assert_eq!(shown("+a +b +c +d -w -x", "", "").len(), 2);
    assert_eq!(shown("+a -w -x -y -z", "", "").len(), 1);
}

#[test]
fn one_right_sample_stands_over_one_unreadable_one() {
    assert_eq!(shown("?u ?v +a", "", ""), ["best_of_n_positive2unknown a>u"]);
    // The right one is the first after the shuffle, the unreadable one the first as it was written.
    assert_eq!(shown("?v ?u +a +b +c +d +e", "", ""), ["best_of_n_positive2unknown b>v"]);
    assert_eq!(shown("+a -b ?u", "", ""), ["best_of_n a>b", "best_of_n_positive2unknown a>u"]);
}

#[test]
fn a_preamble_is_the_right_reason_over_the_wrong_one() {
    assert_eq!(shown("+a", "+g", "-r"), ["preamble g>r"]);
    assert_eq!(shown("+a", "+g +h", "-r -s"), ["preamble g>r"]);
    // What else there is does not matter.
    assert_eq!(shown("+a", "-f +g ?h", "+q -r ?s"), ["preamble g>r"]);
    assert_eq!(shown("+a -b ?u", "+g", "-r").len(), 3);
}

#[test]
fn without_a_preamble_what_is_unreadable_may_stand_in() {
    assert_eq!(shown("+a", "?h", "-r"), ["preamble2unknown h>r"]);
    assert_eq!(shown("+a", "+g", "?s"), ["preamble2unknown g>s"]);
    assert_eq!(shown("+a", "?h", "?s"), ["preamble2unknown h>s"]);
    assert_eq!(shown("+a", "?h +g", "?s"), ["preamble2unknown g>s"]);
    // Not beside a preamble.
    assert_eq!(shown("+a", "+g ?h", "-r ?s"), ["preamble g>r"]);
    // Not where the model named the answer that it was not told.
    assert!(shown("+a", "-f ?h", "-r").is_empty());
    assert!(shown("+a", "+g", "+q ?s").is_empty());
    // Not with one side alone.
    assert!(shown("+a", "+g", "").is_empty());
    assert!(shown("+a", "", "-r").is_empty());
}

#[test]
fn equal_texts_are_no_pair() {
    let Paired { pairs, equal_texts, unpaired } = paired("+a", "?same", "?same");
    assert_eq!((pairs.len(), equal_texts, unpaired), (0, 1, Some(Unpaired::EqualTexts)));
    let Paired { pairs, equal_texts, unpaired } = paired("+a -b", "?same", "?same");
    assert_eq!((pairs.len(), equal_texts, unpaired), (1, 1, None));
}

#[test]
fn a_prompt_without_a_pair_says_why() {
    let why = |output: &str| paired(output, "", "").unpaired.unwrap();
    assert_eq!(why("+a +b"), Unpaired::AllPositive);
    assert_eq!(why("-a -b"), Unpaired::AllNegative);
    assert_eq!(why("-a ?b"), Unpaired::AllNegative);
    assert_eq!(why("?a ?b"), Unpaired::Unreadable);
    assert_eq!(why(""), Unpaired::Unreadable);
    // A preamble makes up for it.
    assert_eq!(paired("+a +b", "+g", "-r").unpaired, None);
}

/// A prompt of `fixtures/pairs.json`.
#[derive(Deserialize)]
struct Recorded {
    #[serde(flatten)]
    judged: Judged,
    pairs: Vec<(PairType, String, String)>,
    equal_texts: u64,
}

#[test]
fn pairs_are_those_that_cpython_makes() {
    let prompts: Vec<Recorded> = serde_json::from_str(include_str!("fixtures/pairs.json")).unwrap();
    let mut draws = MersenneTwister::new(2021);
    let mut types = BTreeSet::new();
    for (number, Recorded { judged, pairs, equal_texts }) in prompts.into_iter().enumerate() {
        let made = judged.pair(&mut draws);
        let found =
            made.pairs.iter().map(|pair| (pair.pair_type, pair.chosen.clone(), pair.rejected.clone()));
        assert_eq!(found.collect::<Vec<_>>(), pairs, "prompt {number}");
        assert_eq!(made.equal_texts, equal_texts, "prompt {number}");
        assert_eq!(made.unpaired.is_some(), pairs.is_empty());
        types.extend(pairs.into_iter().map(|(pair_type, ..)| pair_type));
    }
    assert_eq!(types.into_iter().collect::<Vec<_>>(), PairType::ALL, "every rule is recorded");
}
