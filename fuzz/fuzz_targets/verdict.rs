//! Any text has a reading, in time linear in its length; and a judgement is read back, whatever its reason.
#![no_main]

use std::time::Duration;

use collimate_judge::{Language, Number, judgement, verdict};
use cpu_time::ProcessTime;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// How long the text is made by repeating it, in bytes.
const LENGTH: usize = 1 << 16;
/// Of short texts, one in so many is repeated: it takes as long as a thousand others.
const REPEATED_ONE_IN: usize = 32;

fuzz_target!(|text: &str| {
    verdict(text);
    for language in Language::ALL {
        for number in [Number::First, Number::Second] {
            assert_eq!(verdict(&judgement(language, text, number)), Some(number));
            let number_first =
                json!({ language.verdict_key(): u8::from(number), language.reason_key(): text });
            assert_eq!(verdict(&number_first.to_string()), Some(number));
        }
    }
    if let Ok(value @ Value::Object(_)) = serde_json::from_str(text) {
        // Two members of one name become one.
        let text = value.to_string();
        assert_eq!(verdict(&text), verdict(&format!("```json\n{value:#}\n```")), "{text}");
    }
    let sum: usize = text.bytes().map(usize::from).sum();
    if (1..=16).contains(&text.len()) && sum % REPEATED_ONE_IN == 0 {
        let long = text.repeat(LENGTH / text.len());
        let start = ProcessTime::now();
        verdict(&long);
        // Of the processor, which others may keep busy. Milliseconds if linear, with the sanitiser; ten seconds and
        // more if not.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} for {text:?} repeated", start.elapsed());
    }
});
