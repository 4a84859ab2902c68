//! From a question to a training pair: what the judge was asked, what it wrote, and the pair made of it.

use std::path::{Path, PathBuf};

use collimate_judge::{Judgement, Number, Reading, verdict};
use serde::Deserialize;
use serde_json::Value;

use crate::rows::{each_row, typed};
use crate::run::{Run, Step};
use crate::spread::Spread;

/// Questions that are followed.
const STORIES: usize = 4;

/// Judgements of one file that are shown for a question.
const JUDGEMENTS: usize = 4;

/// The pairs, within the folder of the stage that makes them.
const PAIRS: &str = "dataset/train";

/// Files of judgements, and how each came about.
const FILES: [(&str, &str); 3] = [
    ("output.jsonl", "sampled"),
    ("guide.jsonl", "told the truth"),
    ("guide_reverse.jsonl", "told the opposite"),
];

/// A question and what became of it.
#[derive(Debug)]
pub(crate) struct Story {
    /// The number of the raw row.
    pub test_id: u64,
    /// Its source.
    pub tag: String,
    /// What the judge was asked.
    pub prompt: String,
    /// Where the preferred answer stands.
    pub chosen: Option<Number>,
    /// What it wrote.
    pub judgements: Vec<Written>,
    /// The pair made of it, or one of them.
    pub pair: Option<Pair>,
}

/// A judgement.
#[derive(Debug)]
pub(crate) struct Written {
    /// How it came about: `sampled`, `told the truth`.
    pub how: &'static str,
    /// Its text.
    pub text: String,
    /// The answer that it names, if that can be read.
    pub verdict: Option<Number>,
    /// Whether it names the preferred one.
    pub reading: Reading,
}

/// A training pair.
#[derive(Debug, Deserialize)]
pub(crate) struct Pair {
    test_id: u64,
    #[serde(default)]
    tag: String,
    /// Which rule made it.
    pub pair_type: String,
    /// The better judgement.
    pub chosen: Value,
    /// The worse one.
    pub rejected: Value,
}

/// The stories of a run, and what is wrong with the files that tell them.
pub(crate) fn stories(run: &Run) -> (Vec<Story>, Vec<String>) {
    let last = |stage: &str| run.steps.iter().rev().find(|step| step.manifest.stage == stage);
    let mut complaints = Vec::new();
    let mut stories = last("judge_pairs").map_or_else(Vec::new, |step| paired(step, &mut complaints));
    let sources = match last("judge_tidy") {
        Some(tidied) => vec![tidied],
        None => [last("judge_sample"), last("judge_hint")].into_iter().flatten().collect(),
    };
    let files = sources.iter().flat_map(|step| FILES.map(|(file, how)| (step.folder.join(file), how)));
    let files: Vec<(PathBuf, &str)> = files.filter(|(path, _)| path.exists()).collect();
    if let (true, Some((path, _))) = (stories.is_empty(), files.first()) {
        stories = unpaired(path);
    }
    for (path, how) in &files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        complaints.extend(hear(&mut stories, path, how).complaint(&name));
    }
    (stories, complaints)
}

/// The first pair of each type, of different questions.
fn paired(step: &Step, complaints: &mut Vec<String>) -> Vec<Story> {
    let path = step.folder.join(PAIRS);
    let mut found: Vec<Story> = Vec::new();
    let reading = each_row(&path, |row| {
        let Some(pair) = typed::<Pair>(row) else { return };
        let told = |story: &Story| {
            let same_type = story.pair.as_ref().is_some_and(|told| told.pair_type == pair.pair_type);
            same_type || story.test_id == pair.test_id
        };
        if found.len() < STORIES && !found.iter().any(told) {
            let story = Story { tag: pair.tag.clone(), pair: None, ..Story::of(pair.test_id) };
            found.push(Story { pair: Some(pair), ..story });
        }
    });
    complaints.extend(reading.complaint(PAIRS).filter(|_| step.done || path.exists()));
    found
}

/// Questions at even distances, where no pairs are made yet.
fn unpaired(path: &Path) -> Vec<Story> {
    let mut ids = Spread::new(STORIES);
    // What is wrong with the file is said when it is read for its texts.
    each_row(path, |row| {
        if let Some(id) = row.get("test_id").and_then(Value::as_u64) {
            ids.offer(|| id);
        }
    });
    let mut ids = ids.into_items();
    ids.dedup();
    ids.into_iter().map(Story::of).collect()
}

/// Adds the judgements of a file to the stories that they belong to.
fn hear(stories: &mut [Story], path: &Path, how: &'static str) -> crate::rows::Reading {
    each_row(path, |row| {
        let id = row.get("test_id").and_then(Value::as_u64);
        let Some(story) = stories.iter_mut().find(|story| Some(story.test_id) == id) else { return };
        let Some(judgement) = typed::<Judgement>(row) else { return };
        if story.judgements.iter().filter(|written| written.how == how).count() < JUDGEMENTS {
            story.add(how, judgement);
        }
    })
}

impl Story {
    fn of(test_id: u64) -> Self {
        let (tag, prompt) = (String::new(), String::new());
        Self { test_id, tag, prompt, chosen: None, judgements: Vec::new(), pair: None }
    }

    fn add(&mut self, how: &'static str, judgement: Judgement) {
        let Judgement { prompt, r#gen: text, tag, chosen, .. } = judgement;
        let verdict = verdict(&text);
        let reading = Reading::of(verdict, chosen);
        (self.prompt, self.tag, self.chosen) = (prompt, tag, Some(chosen));
        self.judgements.push(Written { how, text, verdict, reading });
    }
}
