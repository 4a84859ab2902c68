//! Counts over preference rows: by split and type, duplicates, what stands in several splits.
//!
//! Texts and ids are held as 8 bytes of their BLAKE3 hash: that among ten million rows two different ones are
//! taken for the same has a chance of some millionths.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use collimate_data::JudgedTexts;
use serde_json::{Map, Value};

use super::figures::{Group, Leakage, Sample, Split, Summary};
use crate::statistics::Estimate;

/// The most pair types that are told apart; further ones are counted together.
const MAX_PAIR_TYPES: usize = 64;
/// What those are called.
const OTHER_TYPES: &str = "(others)";
/// The most rows that are shown.
const MAX_SAMPLES: usize = 12;
/// The most characters of a text that are shown.
const SHOWN_CHARACTERS: usize = 2_000;
/// The most test_ids that are named where they stand in several splits.
const NAMED_IDS: usize = 5;

/// The counts so far.
#[derive(Default)]
pub(super) struct Tally {
    splits: Vec<Count>,
    pair_types: Vec<String>,
    /// Rows by split and pair type.
    groups: HashMap<(usize, usize), u64>,
    /// What was seen of split, pair type (or none: all of them) and test id together.
    ids: HashSet<u64>,
    /// How many different ids that makes by split and pair type.
    id_counts: HashMap<(usize, Option<usize>), u64>,
    rows: HashSet<u64>,
    prompts_by_split: Seen,
    ids_by_split: Seen,
    first_leaked: Vec<String>,
    duplicates: u64,
    identical: u64,
    /// Ids whose place of the chosen answer is counted.
    placed: HashSet<u64>,
    chosen_at: [u64; 2],
    samples: Vec<Sample>,
    sampled: HashSet<(Option<usize>, usize)>,
}

struct Count {
    name: String,
    rows: u64,
}

/// The first split in which something stood, and whether it stood in another one too.
#[derive(Default)]
struct Seen {
    first: HashMap<u64, (usize, bool)>,
    in_several: u64,
}

impl Seen {
    /// Notes where something stands; true when that is the second split for it.
    fn add(&mut self, what: u64, split: usize) -> bool {
        match self.first.entry(what) {
            Entry::Vacant(place) => {
                place.insert((split, false));
                false
            }
            Entry::Occupied(mut place) => {
                let (first, several) = place.get_mut();
                let news = *first != split && !*several;
                *several |= news;
                self.in_several += u64::from(news);
                news
            }
        }
    }
}

impl Tally {
    /// The number of a split, by its name.
    pub fn split(&mut self, name: &str) -> usize {
        self.splits.iter().position(|split| split.name == name).unwrap_or_else(|| {
            self.splits.push(Count { name: name.to_owned(), rows: 0 });
            self.splits.len() - 1
        })
    }

    /// Takes a row; returns what is the same in all rows that say something of one prompt.
    pub fn add(&mut self, split: usize, fields: &Map<String, Value>, texts: &JudgedTexts) -> u64 {
        let JudgedTexts { prompt, chosen, rejected, pair_type } = texts;
        self.splits[split].rows += 1;
        let pair_type = pair_type.as_deref().map(|name| self.pair_type(name));
        let id = fields.get("test_id").filter(|id| !id.is_null()).map(text_of);
        if let Some(pair_type) = pair_type {
            *self.groups.entry((split, pair_type)).or_default() += 1;
        }
        if let Some(id) = &id {
            for pair_type in [None, pair_type] {
                let name = pair_type.map(|at| self.pair_types[at].as_str());
                if self.ids.insert(hash([Some(&self.splits[split].name), name, Some(id)])) {
                    *self.id_counts.entry((split, pair_type)).or_default() += 1;
                }
            }
            if self.ids_by_split.add(hash([Some(id)]), split) && self.first_leaked.len() < NAMED_IDS {
                self.first_leaked.push(id.clone());
            }
        }
        self.prompts_by_split.add(hash([Some(prompt)]), split);
        let all = hash([Some(prompt), chosen.as_deref(), rejected.as_deref()]);
        self.duplicates += u64::from(!self.rows.insert(all));
        self.identical += u64::from(chosen.is_some() && chosen == rejected);
        let cluster = hash([id.as_deref(), Some(prompt).filter(|_| id.is_none()).map(String::as_str)]);
        let place = match fields.get("chosen_id").map(text_of).as_deref() {
            Some("1") => Some(0),
            Some("2") => Some(1),
            _ => None,
        };
        // All rows of an id come from one prompt, in which the answers stood as they did.
        let counted = place.filter(|_| id.is_none() || self.placed.insert(cluster));
        counted.into_iter().for_each(|place: usize| self.chosen_at[place] += 1);
        self.show(split, pair_type, id, texts);
        cluster
    }

    fn pair_type(&mut self, name: &str) -> usize {
        let full = self.pair_types.len() == MAX_PAIR_TYPES;
        self.pair_types.iter().position(|known| known == name).unwrap_or_else(|| {
            if !full {
                let name = if self.pair_types.len() + 1 == MAX_PAIR_TYPES { OTHER_TYPES } else { name };
                self.pair_types.push(name.to_owned());
            }
            self.pair_types.len() - 1
        })
    }

    /// Keeps the first row of each pair type, or of each split.
    fn show(&mut self, split: usize, pair_type: Option<usize>, test_id: Option<String>, texts: &JudgedTexts) {
        let key = (pair_type, if pair_type.is_some() { 0 } else { split });
        if self.samples.len() == MAX_SAMPLES || !self.sampled.insert(key) {
            return;
        }
        self.samples.push(Sample {
            split: self.splits[split].name.clone(),
            pair_type: texts.pair_type.as_deref().map(shorten),
            test_id: test_id.as_deref().map(shorten),
            prompt: shorten(&texts.prompt),
            chosen: texts.chosen.as_deref().map(shorten),
            rejected: texts.rejected.as_deref().map(shorten),
        });
    }

    /// The figures that do not depend on lengths.
    pub fn finish(self) -> Summary {
        let ids = |split, pair_type| self.id_counts.get(&(split, pair_type)).copied();
        let (mut splits, mut groups) = (Vec::new(), Vec::new());
        for (at, Count { name: split, rows }) in self.splits.iter().enumerate() {
            splits.push(Split { split: split.clone(), rows: *rows, ids: ids(at, None) });
            for (number, pair_type) in self.pair_types.iter().enumerate() {
                let Some(rows) = self.groups.get(&(at, number)).copied() else { continue };
                let (split, pair_type, ids) = (split.clone(), pair_type.clone(), ids(at, Some(number)));
                groups.push(Group { split, pair_type, rows, ids });
            }
        }
        let placed: u64 = self.chosen_at.iter().sum();
        Summary {
            splits,
            groups,
            chosen_first: (placed > 0).then(|| Estimate::share(self.chosen_at[0], placed)),
            duplicates: self.duplicates,
            identical: self.identical,
            leakage: Leakage {
                ids: (!self.ids.is_empty()).then_some(self.ids_by_split.in_several),
                prompts: self.prompts_by_split.in_several,
                first_ids: self.first_leaked,
            },
            samples: self.samples,
            ..Summary::default()
        }
    }
}

/// A value as a person writes it: a string without its quotes.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// 8 bytes of the hash of texts, some of which may be missing.
fn hash<const N: usize>(texts: [Option<&str>; N]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        // Lengths keep apart what would run together; no text is as long as a missing one.
        hasher.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        hasher.update(text.unwrap_or_default().as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// The beginning of a text, with a mark where it is cut.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{} […]", &text[..end]),
        None => text.to_owned(),
    }
}
