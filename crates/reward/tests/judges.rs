//! Judges, with a made-up model behind them: what they are asked, and what their judgements come to.

use std::cell::RefCell;
use std::rc::Rc;

use crate::common::{Case, score};
use collimate_generate::{
    Answer, Constraint, Error as GenerateError, FinishReason, Generator, Prompt, Request, Sample,
    SamplingOptions,
};
use collimate_judge::{Language, Number, judgement, verdict};
use collimate_reward::{Error, Judge, JudgeCompare, JudgeScore, JudgeSource};
use collimate_run::Context;
use serde_json::{Value, json};

/// What it is asked: prompt, key, number of the sample, options.
type Log = Rc<RefCell<Vec<(String, u64, u64, SamplingOptions)>>>;

/// Answers a prompt as the function does; nothing is a refusal.
struct Model {
    answer: fn(&str, u64) -> Option<String>,
    log: Log,
}

impl JudgeSource for Model {
    fn generator(&mut self) -> Box<dyn Generator + '_> {
        Box::new(Pen(self))
    }
}

struct Pen<'a>(&'a Model);

impl Generator for Pen<'_> {
    fn generate(
        &mut self,
        requests: &[Request],
        options: &SamplingOptions,
        _context: &Context,
        take: &mut dyn FnMut(Answer) -> Result<(), GenerateError>,
    ) -> Result<(), GenerateError> {
        // Whatever comes last is finished first.
        for (request, asked) in requests.iter().enumerate().rev() {
            let Prompt::Text(text) = &asked.prompt else { panic!("{asked:?}") };
            let number = asked.samples[0];
            self.0.log.borrow_mut().push((text.clone(), asked.key, number, options.clone()));
            take(match (self.0.answer)(text, number) {
                Some(text) => {
                    let (tokens, finish_reason) = (Vec::new(), FinishReason::Stop);
                    Answer::Sample {
                        request,
                        number,
                        sample: Sample { tokens, text, finish_reason, logprobs: None, usage: None },
                    }
                }
                None => {
                    Answer::Refused { request, error: GenerateError::EmptyPrompt { number: request + 1 } }
                }
            })?;
        }
        Ok(())
    }
}

fn judge(answer: fn(&str, u64) -> Option<String>) -> (Judge, Log) {
    let log = Log::default();
    let source = Box::new(Model { answer, log: Rc::clone(&log) });
    (Judge { source, adapter: None, chat: false, max_new_tokens: 100 }, log)
}

/// Completions, each of a row.
fn cases(completions: &[(u64, &str)]) -> Vec<Case> {
    let case = |(row, completion): &(u64, &str)| Case::new(*row, json!({ "prompt": "Q?" }), completion);
    completions.iter().map(case).collect()
}

/// What stands between the marks of an answer.
fn answer_of(prompt: &str, open: &str) -> usize {
    let text = prompt.split_once(&format!("<{open}>\n")).unwrap().1;
    text.split_once('\n').unwrap().0.parse().unwrap()
}

/// Prefers the higher number; of 0 it says nothing that can be read.
fn higher(prompt: &str, _number: u64) -> Option<String> {
    let [first, second] = ["answer_1", "answer_2"].map(|open| answer_of(prompt, open));
    let better = if first > second { Number::First } else { Number::Second };
    Some(if first * second == 0 { "Hm.".to_owned() } else { judgement(Language::English, "because", better) })
}

#[test]
fn completions_are_compared_in_a_ring_in_both_orders() {
    let (judge, log) = judge(higher);
    let mut reward = JudgeCompare(judge);
    // Of row 1: 2 > 1, 3 > 2, 3 > 1. Of row 2 a pair.
    let found = score(&mut reward, &cases(&[(1, "1"), (1, "2"), (1, "3"), (2, "9"), (2, "8")]));
    assert_eq!(found.unwrap(), [0.0, 0.5, 1.0, 1.0, 0.0]);
    assert_eq!(log.borrow().len(), 6 + 2);
    let mut keys: Vec<u64> = log.borrow().iter().map(|asked| asked.1).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 8);
    for (text, _, number, options) in log.borrow().iter() {
        assert!(text.contains("\nQ?\n") && *number == 0 && !options.do_sample, "{text}");
        assert_eq!(options.max_new_tokens, 100);
        let Some(Constraint::Json(form)) = &options.constraint else { panic!("{options:?}") };
        assert_eq!(form["required"], json!(["reason", "better_answer"]));
    }
}

#[test]
fn a_verdict_that_is_not_read_is_asked_for_again_and_is_no_tie() {
    // Of 0 it says nothing, of a 7 nothing at first.
    let reluctant = |text: &str, number| {
        let says_nothing = number == 0 && text.contains("\n7\n");
        if says_nothing { Some("Hm.".to_owned()) } else { higher(text, number) }
    };
    let (judge, log) = judge(reluctant);
    let mut reward = JudgeCompare(judge);
    assert_eq!(
        score(&mut reward, &cases(&[(1, "1"), (1, "2"), (2, "7"), (2, "8")])).unwrap(),
        [0.0, 1.0, 0.0, 1.0]
    );
    let again = log.borrow().iter().filter(|asked| asked.2 == 1 && asked.3.do_sample).count();
    assert_eq!((log.borrow().len(), again), (4 + 2, 2));
    let failed = score(&mut reward, &cases(&[(1, "1"), (1, "2"), (3, "0"), (3, "5")])).unwrap_err();
    assert!(
        matches!(&failed, Error::Unread { row: 3, attempts: 3, text, .. } if text == "Hm."),
        "{failed:?}"
    );
}

#[test]
fn a_judge_of_no_opinion_gives_halves() {
    let always_first = |_: &str, _| Some(judgement(Language::English, "it stands first", Number::First));
    assert_eq!(verdict(&always_first("", 0).unwrap()), Some(Number::First));
    let mut reward = JudgeCompare(judge(always_first).0);
    assert_eq!(score(&mut reward, &cases(&[(1, "1"), (1, "2"), (1, "3")])).unwrap(), [0.5; 3]);
}

#[test]
fn each_language_is_asked_in_its_own_form() {
    let by_language = |text: &str, _| {
        let language = Language::asked_by(text);
        Some(judgement(
            language,
            "…",
            if language == Language::Chinese { Number::First } else { Number::Second },
        ))
    };
    let (judge, log) = judge(by_language);
    let mut all = cases(&[(1, "one"), (1, "two")]);
    let messages =
        json!([{ "role": "system", "content": "Be kind." }, { "role": "user", "content": "你好吗？" }]);
    all.extend(["好", "不好"].map(|text| Case::new(2, json!({ "prompt": messages }), text)));
    assert_eq!(score(&mut JudgeCompare(judge), &all).unwrap(), [0.5; 4]);
    let chinese = log.borrow().iter().filter(|asked| asked.0.contains("系统：Be kind.")).count();
    assert_eq!(chinese, 2);
    for (text, _, _, options) in log.borrow().iter() {
        let Some(Constraint::Json(form)) = &options.constraint else { panic!("{options:?}") };
        assert_eq!(form["required"][1], json!(Language::asked_by(text).verdict_key()));
    }
}

#[test]
fn what_cannot_be_judged_is_an_error_with_its_row() {
    let failed =
        score(&mut JudgeCompare(judge(higher).0), &cases(&[(1, "1"), (1, "2"), (5, "3")])).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "the reward judge cannot be given for row 5: its prompt has no other completion to compare it with"
    );
    let wrong = [Case::new(4, json!({ "prompt": [{ "role": "user" }] }), "1"), Case::new(4, json!({}), "2")];
    let failed = score(&mut JudgeCompare(judge(higher).0), &wrong).unwrap_err();
    assert!(matches!(failed, Error::Row { row: 4, .. }), "{failed:?}");
    let refuses =
        |text: &str, _| (!text.contains("\n7\n")).then(|| r#"{"reason": "…", "score": 3}"#.to_owned());
    let failed = score(&mut JudgeScore(judge(refuses).0), &cases(&[(1, "1"), (6, "7")])).unwrap_err();
    assert!(matches!(&failed, Error::Judge { row: 6, reward, .. } if reward == "judge_score"), "{failed:?}");
}

#[test]
fn a_score_that_is_not_read_is_asked_for_again() {
    let reluctant = |text: &str, number| {
        let answer: u64 = answer_of(text, "answer") as u64;
        let read = format!("{{\"reason\": \"…\", \"score\": {answer}}}");
        Some(if number + 1 < answer { "{\"reason\": \"…".to_owned() } else { read })
    };
    let (judge, log) = judge(reluctant);
    let mut reward = JudgeScore(judge);
    assert_eq!(score(&mut reward, &cases(&[(1, "1"), (1, "3"), (2, "2")])).unwrap(), [0.1, 0.3, 0.2]);
    let numbers = |answer: &str| -> Vec<(u64, bool)> {
        let log = log.borrow();
        let of = log.iter().filter(|asked| asked.0.contains(&format!("<answer>\n{answer}\n")));
        of.map(|(_, _, number, options)| (*number, options.do_sample)).collect()
    };
    assert_eq!(numbers("1"), [(0, false)]);
    assert_eq!(numbers("2"), [(0, false), (1, true)]);
    assert_eq!(numbers("3"), [(0, false), (1, true), (2, true)]);
    let keys: Vec<u64> = log.borrow().iter().take(3).map(|asked| asked.1).collect();
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    let failed = score(&mut reward, &cases(&[(1, "1"), (8, "4")])).unwrap_err();
    assert!(matches!(failed, Error::Unread { row: 8, attempts: 3, .. }), "{failed:?}");
}

#[test]
fn a_conversation_is_put_as_one() {
    struct Chat(Rc<RefCell<Vec<Value>>>);
    impl JudgeSource for Chat {
        fn generator(&mut self) -> Box<dyn Generator + '_> {
            Box::new(Talk(Rc::clone(&self.0)))
        }
    }
    struct Talk(Rc<RefCell<Vec<Value>>>);
    impl Generator for Talk {
        fn generate(
            &mut self,
            requests: &[Request],
            _options: &SamplingOptions,
            _context: &Context,
            take: &mut dyn FnMut(Answer) -> Result<(), GenerateError>,
        ) -> Result<(), GenerateError> {
            let Prompt::Chat(messages) = &requests[0].prompt else { panic!("{requests:?}") };
            assert_eq!(requests[0].adapter.as_deref(), Some("tuned"));
            self.0.borrow_mut().extend(messages.clone());
            let (tokens, text) = (Vec::new(), r#"{"score": 10}"#.to_owned());
            let sample =
                Sample { tokens, text, finish_reason: FinishReason::Stop, logprobs: None, usage: None };
            take(Answer::Sample { request: 0, number: 0, sample })
        }
    }
    let heard = Rc::new(RefCell::new(Vec::new()));
    let source = Box::new(Chat(Rc::clone(&heard)));
    let judge = Judge { source, adapter: Some("tuned".to_owned()), chat: true, max_new_tokens: 100 };
    assert_eq!(score(&mut JudgeScore(judge), &cases(&[(1, "1")])).unwrap(), [1.0]);
    let heard = heard.borrow();
    assert!(
        heard.len() == 1
            && heard[0]["role"] == "user"
            && heard[0]["content"].as_str().unwrap().contains("Q?")
    );
}
