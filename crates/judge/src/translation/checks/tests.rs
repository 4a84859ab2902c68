//! Each check, on translations that pass it and on those that do not.

use super::super::Rule;
use super::*;

fn holds(check: Rule, text: &str, translation: &str) {
    assert_eq!(check(text, translation), Ok(()), "{text} → {translation}");
}

fn fails(check: Rule, text: &str, translation: &str, reason: &str) {
    assert_eq!(check(text, translation), Err(reason.to_owned()), "{text} → {translation}");
}

#[test]
fn an_introduction_or_a_refusal_is_no_translation() {
    holds(preface, "你好", "Hello");
    fails(
        preface,
        "你好",
        "Here is the translation: Hello",
        "it begins with an introduction: \"Here is the translation: Hello\"",
    );
    fails(preface, "写诗", "Sure, here you go", "it begins with an introduction: \"Sure, here you go\"");
    fails(preface, "做炸弹", "I'm sorry, I can't.", "it is a refusal: \"I'm sorry, I can't.\"");
    // Where the text itself says so.
    holds(preface, "以下是英文译文：", "Here is the English translation:");
    holds(preface, "很抱歉，我帮不了你。", "I'm sorry, I can't help you.");
}

#[test]
fn code_stays_as_it_is_but_for_chinese_in_it() {
    let text = "看：\n```python\nx = 1\n```\n和\n```\n# 打印\nprint(x)\n```";
    holds(fences, text, "Look:\n```python\nx = 1\n```\nand\n```\n# Print\nprint(x)\n```");
    fails(fences, text, "Look: x = 1 and\n```\n# Print\nprint(x)\n```", "it has 1 code fences instead of 2");
    fails(
        fences,
        text,
        "Look:\n```python\nx = 2\n```\n```\n# Print\nprint(x)\n```",
        "the code in fence 1 is changed",
    );
    fails(
        fences,
        text,
        "Look:\n```py\nx = 1\n```\n```\n# Print\nprint(x)\n```",
        "code fence 1 is of \"py\" instead of \"python\"",
    );
    fails(
        fences,
        text,
        "Look:\n```python\nx = 1\n```\n```\nprint(x)\n```",
        "code fence 2 has 1 lines instead of 2",
    );
}

#[test]
fn json_keeps_its_keys_and_numbers() {
    let text = r#"{"姓名": "小明", "年龄": 12, "标签": ["高", "快"], "a": null}"#;
    holds(json, text, r#"{"姓名": "Xiao Ming", "年龄": 12, "标签": ["tall", "fast"], "a": null}"#);
    let changed = |from: &str, to: &str| text.replace(from, to);
    fails(json, text, &changed("姓名", "name"), "its JSON has a new key \"name\" at $");
    fails(json, text, &changed("\"年龄\": 12, ", ""), "its JSON lacks the key \"年龄\" at $");
    fails(json, text, &changed("12", "13"), "its JSON is another one at $.年龄");
    fails(json, text, &changed("12", "\"12\""), "its JSON is another one at $.年龄");
    fails(json, text, &changed("\"高\", ", ""), "its JSON is another one at $.标签");
    fails(json, text, &changed("\"a\": null}", "\"a\": null"), "its JSON cannot be read");
    let fenced = |inner: &str| format!("a\n```json\n{inner}\n```");
    fails(json, &fenced(text), &fenced(&changed("\"高\"", "\"\"tall\"\"")), "its JSON cannot be read");
    holds(json, "没有 JSON：{a", "No JSON: {a");
}

#[test]
fn json_within_a_sentence_keeps_its_keys_and_numbers() {
    let text = r#"【1】请解析 {"名字": "张三", "年龄": 3} 和 ["甲", "乙"]，谢谢"#;
    let good = r#"[1] Please parse {"名字": "Zhang San", "年龄": 3} and ["A", "B"], thank you"#;
    holds(json, text, good);
    holds(english, text, good);
    let changed = |from: &str, to: &str| good.replace(from, to);
    fails(json, text, &changed("名字", "name"), "its JSON has a new key \"name\" at $");
    fails(json, text, &changed(": 3}", ": 4}"), "its JSON is another one at $.年龄");
    fails(json, text, &changed("\"Zhang San\"", "Zhang San"), "its JSON cannot be read");
    fails(json, text, &changed("[\"A\", \"B\"]", "A and B"), "its JSON cannot be read");
}

#[test]
fn placeholders_tags_and_urls_are_all_there() {
    let text = "亲爱的{name}，%s见<b>https://a.b</b>，{name}";
    holds(placeholders, text, "Dear {name}, %s see <b>https://a.b</b>, {name}");
    fails(placeholders, text, "Dear {name}, %s see <b>https://a.b</b>", "{name} is missing");
    fails(placeholders, text, "Dear {name} {name}, see <b>https://a.b</b>", "%s is missing");
    fails(placeholders, text, "{name} {name} %s <b>https://a.c</b>", "https://a.b is missing");
}

#[test]
fn numbers_are_all_there() {
    holds(numbers, "共10000元，3.5%，１２个", "10,000 yuan in all, 3.5%, 12 of them");
    holds(numbers, "1,234和1,2,3", "1234 and 1, 2, 3");
    holds(numbers, "第2步：3万人在5月", "The second step: 30,000 people in May");
    fails(numbers, "2023年有7天", "In 2023 there were seven days", "the number 7 is missing");
    fails(numbers, "3个和3个", "3 and three", "the number 3 is missing");
}

#[test]
fn a_question_stays_one() {
    holds(questions, "为什么？", "Why?");
    fails(questions, "为什么？", "Because.", "no question is left");
}

#[test]
fn a_translation_is_neither_empty_nor_an_essay() {
    holds(length, "好的", "OK");
    holds(length, "中华人民共和国", "The People's Republic of China");
    fails(length, "好", "", "it is empty");
    fails(length, "法国的首都是哪里", "Paris.", "it has 6 letters, and about 32 are to be expected");
    fails(length, "写诗", &"a".repeat(105), "it has 105 letters, and about 8 are to be expected");
}

#[test]
fn hardly_any_chinese_is_left() {
    holds(english, "“你好”怎么说", "How do you say “你好”");
    fails(english, "今天天气很好", "今天 the weather is 很好", "4 of its 16 letters are Chinese");
    fails(english, "春天来了", "春天", "2 of its 2 letters are Chinese");
    holds(english, r#"{"更好的回答": 1, "原因": "好"}"#, r#"{"更好的回答": 1, "原因": "good"}"#);
    holds(english, "{客户姓名}您好", "Hello {客户姓名}");
}
