//! What is done to the logits before a token is drawn: one function each, as transformers' logits processors do it.
//!
//! Source: `transformers/generation/logits_process.py`. What is filtered out there gets the score -inf; here it
//! leaves the list. Sums of probabilities are in f64.

use std::cmp::Ordering;

/// How many of the most likely tokens [`top_p`] sorts first.
const FIRST_SORTED: usize = 128;

/// By how much that number grows while they are not enough.
const SORTED_GROWTH: usize = 8;

/// A token that may come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// Its logit, as changed so far.
    pub score: f32,
}

/// All tokens with their logits, in the order of their ids, into `out`.
pub fn candidates(logits: &[f32], out: &mut Vec<Candidate>) {
    out.clear();
    out.extend((0..).zip(logits).map(|(token, &score)| Candidate { token, score }));
}

/// `RepetitionPenaltyLogitsProcessor`: makes the tokens of `seen` less likely, for a penalty above 1. `seen` names
/// each token once; `all` must be all tokens in the order of their ids.
pub fn repetition_penalty(all: &mut [Candidate], seen: impl IntoIterator<Item = u32>, penalty: f32) {
    for token in seen {
        if let Some(Candidate { score, .. }) = all.get_mut(token as usize) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
}

/// `TemperatureLogitsWarper`: divides every score.
pub fn temperature(candidates: &mut [Candidate], temperature: f32) {
    for candidate in candidates {
        candidate.score /= temperature;
    }
}

/// `TopKLogitsWarper`: keeps the `k` highest scores, and whatever equals the lowest of them.
pub fn top_k(candidates: &mut Vec<Candidate>, k: usize) {
    if k == 0 || k >= candidates.len() {
        return;
    }
    let mut scores: Vec<f32> = candidates.iter().map(|candidate| candidate.score).collect();
    let (_, &mut lowest, _) = scores.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    candidates.retain(|candidate| candidate.score >= lowest);
}

/// `TopPLogitsWarper`: keeps the most likely tokens until their probabilities reach `p`, at least one; they are
/// then in descending order of score, equals in the order of their ids.
pub fn top_p(candidates: &mut Vec<Candidate>, p: f64) {
    let highest = highest(candidates);
    let wanted = p * mass(candidates, highest);
    let mut sorted = FIRST_SORTED.min(candidates.len());
    // To sort a whole vocabulary would cost as much as a step of a small model, and a few tokens mostly do.
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, most_likely_first);
        }
        candidates[..sorted].sort_unstable_by(most_likely_first);
        let mut above = 0.0;
        let reached = candidates[..sorted].iter().position(|candidate| {
            let stays = above < wanted;
            above += weight(candidate, highest);
            !stays
        });
        match reached {
            Some(kept) => return candidates.truncate(kept.max(1)),
            None if sorted == candidates.len() => return,
            None => sorted = (sorted * SORTED_GROWTH).min(candidates.len()),
        }
    }
}

/// The most likely candidate, of equals the one with the lowest id.
pub fn most_likely(candidates: &[Candidate]) -> Option<u32> {
    candidates.iter().min_by(|a, b| most_likely_first(a, b)).map(|candidate| candidate.token)
}

/// The candidate at the share `position`, in [0, 1), of the probabilities added up in the order of the list.
pub fn draw(candidates: &[Candidate], position: f64) -> Option<u32> {
    let highest = highest(candidates);
    let target = position * mass(candidates, highest);
    let mut reached = 0.0;
    let chosen = candidates.iter().find(|candidate| {
        reached += weight(candidate, highest);
        reached > target
    });
    // The sum may be rounded to just what it must exceed.
    chosen.or(candidates.last()).map(|candidate| candidate.token)
}

fn most_likely_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.token.cmp(&b.token))
}

fn highest(candidates: &[Candidate]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |highest, candidate| highest.max(candidate.score))
}

/// The probability times a factor that is the same for all.
fn weight(candidate: &Candidate, highest: f32) -> f64 {
    (f64::from(candidate.score) - f64::from(highest)).exp()
}

fn mass(candidates: &[Candidate], highest: f32) -> f64 {
    candidates.iter().map(|candidate| weight(candidate, highest)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scores: &[f32]) -> Vec<Candidate> {
        let mut list = Vec::new();
        candidates(scores, &mut list);
        list
    }

    fn tokens(list: &[Candidate]) -> Vec<u32> {
        list.iter().map(|candidate| candidate.token).collect()
    }

    #[test]
    fn equals_of_the_kth_score_stay() {
        let mut found = list(&[1.0, 3.0, 2.0, 2.0, 0.0]);
        top_k(&mut found, 2);
        assert_eq!(tokens(&found), [1, 2, 3]);
    }

    #[test]
    fn top_p_keeps_at_least_one_and_all_for_1() {
        let scores: Vec<f32> = (0..1_000).map(|i| (i * 37 % 1_000) as f32 * 1e-3).collect();
        let kept = |p: f64| {
            let mut found = list(&scores);
            top_p(&mut found, p);
            found
        };
        assert_eq!(tokens(&kept(0.0)), [most_likely(&list(&scores)).unwrap()]);
        assert_eq!(kept(1.0).len(), 1_000);
        // More than one round of sorting; by hand from the geometric sum, of e^(i / 1000) over the kept i.
        let share = |kept: usize| (1.0 - (-1e-3 * kept as f64).exp()) / (1.0 - (-1f64).exp());
        let half = kept(0.5).len();
        assert!(share(half - 1) < 0.5 && share(half) >= 0.5, "{half}");
        assert!(kept(0.5).is_sorted_by(|a, b| a.score >= b.score));
    }

    #[test]
    fn a_draw_falls_where_the_shares_say() {
        let found = list(&[0.0, 3f32.ln(), 0.0]); // Shares 0.2, 0.6, 0.2.
        let drawn = [0.0, 0.199, 0.201, 0.799, 0.801, 1.0].map(|position| draw(&found, position));
        assert_eq!(drawn, [0, 0, 1, 1, 2, 2].map(Some));
        assert_eq!(draw(&[], 0.5), None);
    }

    #[test]
    fn of_equals_the_first_is_the_most_likely() {
        assert_eq!(most_likely(&list(&[-1.0, 2.0, 2.0])), Some(1));
        assert_eq!(most_likely(&[]), None);
    }
}
