//! Whatever the bytes: an error or a model, never a panic, never memory beyond the file's size by more than a
//! constant factor.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    dead_code,
    reason = "a test that cannot be set up is to fail; of `common` it uses a part"
)]

mod common;

use std::path::Path;

use collimate_model::{ChatTemplate, DecoderConfig, Lora, Model, TemplateOptions};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, json};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Memory that may be taken for each byte of the files: headers become maps of names and shapes.
const FACTOR: usize = 16;

/// Memory that may be taken whatever the files' size: a buffer of one mebibyte, and what proptest holds.
const CONSTANT: usize = 2 << 20;

/// Where bytes of a file are to be replaced, as a share of its length, and by what.
type Change = (f64, Vec<u8>);

/// Replacements that make the best lies: extreme lengths and offsets, whole words, JSON's own signs.
fn change() -> impl Strategy<Value = Change> {
    let words = prop_oneof![
        any::<u64>().prop_map(|word| word.to_le_bytes().to_vec()),
        prop_oneof![Just(u64::MAX), Just(1 << 62), Just(1 << 40), Just(0)]
            .prop_map(|word| word.to_le_bytes().to_vec()),
        any::<u32>().prop_map(|word| word.to_le_bytes().to_vec()),
        any::<u8>().prop_map(|byte| vec![byte]),
        "[0-9]{1,20}|[\\[\\]{}\",:]".prop_map(String::into_bytes),
    ];
    (0.0..1.0, words)
}

/// A spoilt copy: some replacements, most of them within the header, and perhaps an early end.
fn spoil(sound: &[u8], header: usize, changes: &[Change], end: f64) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for (place, replacement) in changes {
        let start = (place * header as f64) as usize;
        let room = replacement.len().min(bytes.len() - start);
        bytes[start..start + room].copy_from_slice(&replacement[..room]);
    }
    bytes.truncate((end.min(1.0) * sound.len() as f64) as usize);
    bytes
}

/// Runs `work` and checks what memory it took over the `bytes` of its input.
fn bounded(bytes: usize, work: impl FnOnce()) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    work();
    let taken = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(taken <= FACTOR * bytes + CONSTANT, "{taken} bytes of memory for {bytes} bytes of input");
}

/// Opens a model and reads all of it that can be read.
fn read_all(path: &Path) {
    let Ok(model) = Model::open(path) else { return };
    let mut values = Vec::new();
    for (name, _) in model.config().weights() {
        let _ = model.read(&name, &mut values);
    }
}

fn run<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, cases, ..ProptestConfig::default() });
    let result = runner.run(&strategy, |value| {
        test(value);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

fn spoilt() -> impl Strategy<Value = (Vec<Change>, f64)> {
    (prop::collection::vec(change(), 0..4), prop_oneof![3 => Just(1.0), 1 => 0.0..1.0])
}

/// One test, as the memory of all threads is counted together.
#[test]
fn spoilt_files_neither_panic_nor_take_memory() {
    spoilt_gguf_files();
    spoilt_safetensors();
    spoilt_configurations();
    spoilt_adapters();
    arbitrary_bytes();
    greedy_templates();
}

fn spoilt_gguf_files() {
    let sound = std::fs::read(common::fixture("tiny-llama.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    // The header ends where the data of the first tensor begins: about 2 KiB.
    run(600, spoilt(), |(changes, end)| {
        common::write(&path, &spoil(&sound, 2200, &changes, end));
        bounded(sound.len(), || read_all(&path));
    });
}

fn spoilt_safetensors() {
    let folder = common::copy("tiny-qwen2");
    let path = folder.path().join("model.safetensors");
    let sound = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    run(400, spoilt(), |(changes, end)| {
        common::write(&path, &spoil(&sound, header, &changes, end));
        bounded(sound.len(), || read_all(folder.path()));
    });
}

fn spoilt_configurations() {
    let folder = common::copy("tiny-llama");
    for name in ["config.json", "model.safetensors.index.json"] {
        let path = folder.path().join(name);
        let sound = std::fs::read(&path).unwrap();
        run(200, spoilt(), |(changes, end)| {
            common::write(&path, &spoil(&sound, sound.len(), &changes, end));
            // The folder's files have 280 KiB in all.
            bounded(280 << 10, || read_all(folder.path()));
        });
        common::write(&path, &sound);
    }
}

fn spoilt_adapters() {
    let decoder = DecoderConfig::read(&common::fixture("tiny-llama/config.json")).unwrap();
    let folder = common::copy("adapter");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let path = folder.path().join(name);
        let sound = std::fs::read(&path).unwrap();
        run(300, spoilt(), |(changes, end)| {
            common::write(&path, &spoil(&sound, sound.len().min(1500), &changes, end));
            bounded(12 << 10, || drop(Lora::load(folder.path(), &decoder)));
        });
        common::write(&path, &sound);
    }
}

fn arbitrary_bytes() {
    let folder = common::copy("tiny-qwen2");
    let (gguf, weights) = (folder.path().join("model.gguf"), folder.path().join("model.safetensors"));
    run(200, prop::collection::vec(any::<u8>(), 0..300), |bytes| {
        let magic = [b"GGUF\x03\0\0\0", &bytes[..]].concat();
        common::write(&gguf, &magic);
        bounded(magic.len(), || read_all(&gguf));
        common::write(&weights, &bytes);
        bounded(bytes.len() + 2048, || read_all(folder.path()));
    });
}

/// Each step of a template's budget pays for 64 bytes, and some more that a value takes beside them.
const TEMPLATE_MEMORY: usize = 192 << 20;

/// What makes a large value of `ns.x`, a text of 60,000 letters, or of a long message.
const GREEDY: [&str; 14] = [
    "ns.x | list",
    "ns.x.split(',')",
    "ns.x.rsplit(',')",
    "ns.x.partition(',')",
    "ns.x.casefold()",
    "ns.x.upper()",
    "ns.x.removeprefix('b')",
    "ns.x | tojson",
    "ns.x | replace('a', 'bb')",
    "','.join(ns.x | list)",
    "range(60000) | list",
    "messages * 60000",
    "messages | map(attribute='content') | list",
    "messages[0].content ~ ns.x",
];

/// Hoards, in a loop that would not end, what each expression makes.
fn greedy_templates() {
    let content = "a,".repeat(100_000);
    let messages = [json!({"role": "user", "content": content})];
    for greedy in GREEDY {
        let source = format!(
            "{{% set ns = namespace(x='a,' * 30000, kept=[]) %}}{{% for i in range(99999) %}}{{% for j in range(99999) %}}\
             {{% set ns.kept = [ns.kept, {greedy}] %}}{{% endfor %}}{{% endfor %}}"
        );
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let rendered = ChatTemplate::new(source, Map::new()).render(&messages, &TemplateOptions::default());
        let taken = ALLOCATOR.peak_usage().saturating_sub(before);
        assert!(rendered.is_err(), "{greedy}");
        assert!(taken <= TEMPLATE_MEMORY, "{taken} bytes of memory for {greedy}");
    }
}
