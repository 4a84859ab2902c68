//! Templates that are wrong or mean harm end with an error that says where and why, soon and in little memory.

use collimate_model::{ChatTemplate, Error, TemplateOptions};
use serde_json::{Map, json};

fn failure(source: &str) -> (usize, String) {
    let messages = [json!({"role": "user", "content": "hi"})];
    let error = ChatTemplate::new(source, Map::new())
        .render(&messages, &TemplateOptions::default())
        .map(|text| format!("{source} rendered {} bytes", text.len()))
        .unwrap_err();
    assert!(error.to_string().starts_with("the chat template `default` failed at line "), "{error}");
    match error {
        Error::Template { line, reason, .. } => (line, reason),
        other => panic!("{source}: {other}"),
    }
}

#[test]
fn templates_that_would_not_end_run_out_of_steps() {
    let endless = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% for i in range(9) %}{{ f(n + 1) if n < 12 }}{% endfor %}{% endmacro %}{{ f(0) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = 'x' ~ b %}{% endfor %}{% endfor %}",
    ];
    for source in endless {
        let (_, reason) = failure(source);
        assert!(reason.contains("steps"), "{source}: {reason}");
    }
}

#[test]
fn texts_and_lists_beyond_all_measure_are_never_made() {
    let huge = [
        "{{ 'a' * 10**9 }}",
        "{{ 'a' * 10**18 }}",
        "{{ ([0] * 10**9) | length }}",
        "{{ range(10**12) | list | length }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ 'a' | indent(10**9, true) }}",
        "{{ [1] | tojson(indent=10**9) }}",
        "{{ ('a' * 99999).replace('a', 'b' * 99999) | length }}",
        "{{ ('a' * 99999).replace('', 'b' * 99999) | length }}",
        "{{ ('a' * 99999) | replace('a', 'b' * 99999) | length }}",
        "{{ ('a' * 99999).join(['b'] * 99999) | length }}",
        "{{ (['b'] * 99999) | join('a' * 99999) | length }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}{% endfor %}",
        "{{ 10 ** 10 ** 10 }}",
    ];
    for source in huge {
        let (line, reason) = failure(source);
        assert!(line == 1 && !reason.is_empty(), "{source}: {reason}");
    }
}

#[test]
fn lists_that_share_their_parts_are_not_spelled_out() {
    let doubled =
        "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}";
    for look in ["{{ ns.s }}", "{{ ns.s | tojson }}", "{{ ns.s | string }}", "{{ ','.join([ns.s]) }}"] {
        let (_, reason) = failure(&format!("{doubled}{look}"));
        assert!(reason.contains("steps"), "{look}: {reason}");
    }
    let (_, reason) = failure(&format!("{doubled}{{% set a = ns.s %}}{doubled}{{{{ a == ns.s }}}}"));
    assert_eq!(reason, "it takes more than 5s");
}

#[test]
fn depth_does_not_overflow_the_stack() {
    let failing = [
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".to_owned(),
        format!("{{{{ {}1{} }}}}", "(".repeat(30_000), ")".repeat(30_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(30_000), "]".repeat(30_000)),
        format!("{}{}", "{% if 1 %}".repeat(3_000), "{% endif %}".repeat(3_000)),
        format!("{{{{ 1{} }}}}", " ".repeat(65_536)),
    ];
    for source in failing {
        let (line, reason) = failure(&source);
        assert!(line == 1 && !reason.is_empty());
    }
    let chains = [("not ", "1", ""), ("-", "1", ""), ("", "a", "|d"), ("", "1", " or 1")];
    for (before, middle, after) in chains {
        let times = 60_000 / (before.len() + after.len());
        let source = format!("{{{{ {}{middle}{} }}}}", before.repeat(times), after.repeat(times));
        ChatTemplate::new(source, Map::new())
            .render(&[], &TemplateOptions::default())
            .expect("deep but sound");
    }
}

#[test]
fn values_nested_without_end_do_not_overflow_the_stack() {
    for look in ["", "{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x == [ns.x] }}", "{{ ns.x ~ '' }}"] {
        let source = format!(
            "{{% set ns = namespace(x=[]) %}}{{% for i in range(99999) %}}{{% set ns.x = [ns.x] %}}{{% endfor %}}{look}"
        );
        // Whether it renders or fails, the program goes on.
        let _ = ChatTemplate::new(source, Map::new()).render(&[], &TemplateOptions::default());
    }
}

#[test]
fn errors_name_the_line_and_the_reason() {
    let wrong = [
        ("a\n{{ messages | shuffle }}", 2, "shuffle"),
        ("a\nb\n{% if messages %}", 3, "end of input"),
        ("{{ messages[0].role.nothing.more }}", 1, "undefined"),
        ("\n\n{{ open('/etc/passwd') }}", 3, "open"),
        ("{% include 'other' %}", 1, "other"),
        ("{% for x in 5 %}{% endfor %}", 1, "not iterable"),
        ("\n{{ strftime_now('%Q!') }}", 2, "unknown time format '%Q!'"),
        ("{{ missing | tojson }}", 1, "undefined"),
        ("{{ messages is shiny }}", 1, "shiny"),
        ("{{ 'a'.encode() }}", 1, "encode"),
        ("{{ ''.__class__.__mro__ }}", 1, "undefined"),
    ];
    for (source, line, part) in wrong {
        let (found, reason) = failure(source);
        assert!(found == line && reason.contains(part), "{source}: line {found}: {reason}");
    }
}

#[test]
fn what_a_template_raises_is_told_in_its_own_words() {
    let source = "{% for m in messages %}\n{% macro f() %}{{ raise_exception('No ' ~ m.role ~ '!') }}{% endmacro %}\n{{ f() }}{% endfor %}";
    let messages = [json!({"role": "oracle"})];
    let error =
        ChatTemplate::new(source, Map::new()).render(&messages, &TemplateOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the chat template `default` refuses the messages at line 2: No oracle!");
}

#[test]
fn a_long_conversation_is_well_within_the_budget() {
    let text = "A long text with many words. ".repeat(20_000);
    let messages: Vec<_> = (0..10).map(|_| json!({"role": "user", "content": text})).collect();
    let source =
        "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'].strip() + '</s>' }}{% endfor %}";
    let rendered =
        ChatTemplate::new(source, Map::new()).render(&messages, &TemplateOptions::default()).unwrap();
    assert!(rendered.len() > 5_000_000);
}
