//! Pages of keys and values within a budget of memory, and the prefixes of prompts that are kept for others.

use super::sequence::Sequence;
use collimate_kernels::attention::{Heads, Page};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One in so many pages of the budget may hold a prefix that no sequence holds, after a prefix was added.
const IDLE_SHARE: usize = 4;

/// A page that counts as taken until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub page: Page,
    /// Tells it from all other pages.
    number: u64,
    taken: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a page holds: the tokens, and what stands before them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Contents {
    before: Before,
    tokens: Box<[u32]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Before {
    /// Nothing; the keys and values are those of the model with that adapter.
    Start(Option<usize>),
    /// The page of that number.
    Page(u64),
}

#[derive(Debug)]
struct Kept {
    held: Arc<Held>,
    /// When it was last of use.
    used: u64,
}

/// All pages of a decoder.
#[derive(Debug)]
pub(super) struct Cache {
    heads: Heads,
    layers: usize,
    /// Pages that the budget allows.
    limit: usize,
    taken: Arc<AtomicUsize>,
    numbers: u64,
    clock: u64,
    /// Full pages of prompts.
    kept: HashMap<Contents, Kept>,
}

impl Cache {
    pub fn new(heads: Heads, layers: usize, memory: u64) -> Self {
        let limit = (memory / Page::bytes(heads, layers)) as usize;
        Self { heads, layers, limit, taken: Arc::default(), numbers: 0, clock: 0, kept: HashMap::new() }
    }

    /// Tokens that fit into the budget, whole pages of them.
    pub fn tokens(&self) -> usize {
        self.limit * Page::TOKENS
    }

    /// A sequence with the longest beginning of `tokens` that is kept, at least one token less than all.
    pub fn begin(&mut self, adapter: Option<usize>, tokens: &[u32]) -> Sequence {
        self.clock += 1;
        let (mut before, mut prefix) = (Before::Start(adapter), Vec::new());
        for tokens in tokens[..tokens.len().saturating_sub(1)].chunks_exact(Page::TOKENS) {
            let Some(kept) = self.kept.get_mut(&Contents { before, tokens: tokens.into() }) else { break };
            kept.used = self.clock;
            before = Before::Page(kept.held.number);
            prefix.push(Arc::clone(&kept.held));
        }
        Sequence::new(adapter, prefix)
    }

    /// Gives a sequence the pages for so many more tokens, at the cost of prefixes that nobody holds if need be;
    /// whether the budget allowed it.
    pub fn reserve(&mut self, sequence: &mut Sequence, tokens: usize) -> bool {
        let wanted = sequence.pages_missing(tokens);
        let free = self.limit.saturating_sub(self.taken.load(Ordering::Relaxed));
        if free < wanted {
            let idle = self.idle();
            // Nothing is given up in vain.
            if free + idle < wanted {
                return false;
            }
            self.shrink(idle + free - wanted);
        }
        for _ in 0..wanted {
            self.numbers += 1;
            self.taken.fetch_add(1, Ordering::Relaxed);
            let (page, taken) = (Page::new(self.heads, self.layers), Arc::clone(&self.taken));
            sequence.own.push(Held { page, number: self.numbers, taken });
        }
        true
    }

    /// Keeps the full pages of a sequence that begins with `tokens` for others that begin so too.
    pub fn keep(&mut self, sequence: &mut Sequence, tokens: &[u32]) {
        let full = sequence.own.iter().take_while(|held| held.page.len() == Page::TOKENS).count();
        sequence.prefix.extend(sequence.own.drain(..full).map(Arc::new));
        let mut before = Before::Start(sequence.adapter);
        for (held, tokens) in sequence.prefix.iter_mut().zip(tokens.chunks_exact(Page::TOKENS)) {
            if held.page.len() < Page::TOKENS {
                break;
            }
            let kept = Kept { held: Arc::clone(held), used: self.clock };
            let kept = self.kept.entry(Contents { before, tokens: tokens.into() }).or_insert(kept);
            // A page is never longer of no use than what follows it.
            kept.used = self.clock;
            // Where two sequences have computed the same page at the same time, the first one serves both.
            *held = Arc::clone(&kept.held);
            before = Before::Page(held.number);
        }
        self.shrink(self.limit / IDLE_SHARE);
    }

    /// Prefixes that nobody holds, in pages.
    fn idle(&self) -> usize {
        self.kept.values().filter(|kept| Arc::strong_count(&kept.held) == 1).count()
    }

    /// Gives up all but `most` of the pages that nobody holds, those first that were longest of no use, of these the
    /// last of their text.
    fn shrink(&mut self, most: usize) {
        let idle = self.kept.values().filter(|kept| Arc::strong_count(&kept.held) == 1);
        let mut idle: Vec<_> = idle.map(|kept| (kept.used, std::cmp::Reverse(kept.held.number))).collect();
        let Some(surplus) = idle.len().checked_sub(most).filter(|&surplus| surplus > 0) else { return };
        let (_, &mut last, _) = idle.select_nth_unstable(surplus - 1);
        self.kept.retain(|_, kept| {
            Arc::strong_count(&kept.held) > 1 || (kept.used, std::cmp::Reverse(kept.held.number)) > last
        });
    }
}
