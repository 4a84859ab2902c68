//! What is done to scores before a token is drawn: one function each, as transformers and vLLM do it.
//!
//! Sources: `transformers/generation/logits_process.py`; for the frequency and the presence penalty
//! `vllm/model_executor/layers/utils.py`, which follows OpenAI's definition. The first four change scores in a whole
//! row, where -∞ makes a token impossible; the others drop candidates from a list, in which they keep their order.

use std::cmp::Ordering;

use collimate_kernels::softmax::{BLOCK, exponentials};

/// Tokens that [`top_p`] sorts; more of them it halves first.
pub(crate) const FEW: usize = 128;

/// A token that may come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// Its logit, as changed so far.
    pub score: f32,
}

/// `RepetitionPenaltyLogitsProcessor`: makes the tokens of `seen` less likely, for a penalty above 1. `seen` names
/// each token once.
pub fn repetition_penalty(scores: &mut [f32], seen: impl IntoIterator<Item = u32>, penalty: f32) {
    for token in seen {
        if let Some(score) = scores.get_mut(token as usize) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
}

/// `apply_penalties` of vLLM: takes `frequency` for every time that a token stands in the answer, and `presence`
/// once. `counts` names each token once.
pub fn count_penalties(
    scores: &mut [f32],
    counts: impl IntoIterator<Item = (u32, u32)>,
    frequency: f32,
    presence: f32,
) {
    for (token, count) in counts {
        if let Some(score) = scores.get_mut(token as usize) {
            *score -= frequency * count as f32;
            *score -= presence;
        }
    }
}

/// `MinNewTokensLengthLogitsProcessor`, while an answer is too short: makes the tokens impossible.
pub fn forbid(scores: &mut [f32], tokens: &[u32]) {
    for &token in tokens {
        if let Some(score) = scores.get_mut(token as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Makes all tokens impossible but those whose bit is set: token t is bit t % 32 of word t / 32.
pub fn allow(scores: &mut [f32], allowed: &[u32]) {
    for (index, scores) in scores.chunks_mut(32).enumerate() {
        match allowed.get(index).copied().unwrap_or(0) {
            0 => scores.fill(f32::NEG_INFINITY),
            word => {
                let forbidden = scores.iter_mut().enumerate().filter(|(bit, _)| word >> bit & 1 == 0);
                forbidden.for_each(|(_, score)| *score = f32::NEG_INFINITY);
            }
        }
    }
}

/// `TopKLogitsWarper`: keeps the `k` highest scores, and whatever equals the lowest of them; 0 keeps all.
/// `scratch` saves an allocation.
pub fn top_k(candidates: &mut Vec<Candidate>, k: usize, scratch: &mut Vec<f32>) {
    if k == 0 || k >= candidates.len() {
        return;
    }
    scratch.clear();
    scratch.extend(candidates.iter().map(|candidate| candidate.score));
    let (_, &mut lowest, _) = scratch.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    candidates.retain(|candidate| candidate.score >= lowest);
}

/// `TopPLogitsWarper`: keeps the most likely tokens until their [`mass`] reaches `wanted`, at least one; of equals
/// those with the lowest ids. Whether it was reached: if not, all stay. `scratch` saves an allocation.
pub fn top_p(candidates: &mut Vec<Candidate>, wanted: f64, scratch: &mut Vec<Candidate>) -> bool {
    let highest = highest(candidates);
    scratch.clone_from(candidates);
    let (mut above, mut rest) = (0.0, scratch.as_mut_slice());
    // To sort a whole vocabulary would cost as much as a step of a small model.
    while rest.len() > FEW {
        let whole = rest;
        let middle = whole.len() / 2;
        whole.select_nth_unstable_by(middle, most_likely_first);
        let (upper, lower) = whole.split_at_mut(middle);
        let with_upper = above + mass_below(highest, upper);
        (above, rest) = if with_upper >= wanted { (above, upper) } else { (with_upper, lower) };
    }
    rest.sort_unstable_by(most_likely_first);
    let last = rest.iter().find(|candidate| {
        above += weight(candidate, highest);
        above >= wanted
    });
    if let Some(last) = last {
        candidates.retain(|candidate| most_likely_first(candidate, last) != Ordering::Greater);
    }
    last.is_some()
}

/// `MinPLogitsWarper`: keeps the tokens that are at least `p` times as likely as the likeliest.
pub fn min_p(candidates: &mut Vec<Candidate>, p: f64) {
    let highest = highest(candidates);
    candidates.retain(|candidate| weight(candidate, highest) >= p);
}

/// The candidate at the share `position`, in [0, 1), of the probabilities added up in the order of the list.
pub fn draw(candidates: &[Candidate], position: f64) -> Option<u32> {
    let highest = highest(candidates);
    let target = position * mass(candidates);
    let mut reached = 0.0;
    let chosen = candidates.iter().find(|candidate| {
        reached += weight(candidate, highest);
        reached > target
    });
    // The sum may be rounded to just what it must exceed.
    chosen.or(candidates.last()).map(|candidate| candidate.token)
}

/// The probabilities added up, in units of the highest.
pub fn mass(candidates: &[Candidate]) -> f64 {
    mass_below(highest(candidates), candidates)
}

/// Σ e^(score - highest): blocks in f32, their sum in f64.
fn mass_below(highest: f32, candidates: &[Candidate]) -> f64 {
    let mut scores = [0.0; BLOCK];
    let of_block = |block: &[Candidate]| {
        scores.iter_mut().zip(block).for_each(|(score, candidate)| *score = candidate.score);
        f64::from(exponentials(&scores[..block.len()], highest))
    };
    candidates.chunks(BLOCK).map(of_block).sum()
}

pub(crate) fn most_likely_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(a.token.cmp(&b.token))
}

fn highest(candidates: &[Candidate]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |highest, candidate| highest.max(candidate.score))
}

fn weight(candidate: &Candidate, highest: f32) -> f64 {
    (f64::from(candidate.score) - f64::from(highest)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scores: &[f32]) -> Vec<Candidate> {
        (0..).zip(scores).map(|(token, &score)| Candidate { token, score }).collect()
    }

    fn tokens(list: &[Candidate]) -> Vec<u32> {
        list.iter().map(|candidate| candidate.token).collect()
    }

    #[test]
    fn equals_of_the_kth_score_stay() {
        let mut found = list(&[1.0, 3.0, 2.0, 2.0, 0.0]);
        top_k(&mut found, 2, &mut Vec::new());
        assert_eq!(tokens(&found), [1, 2, 3]);
    }

    #[test]
    fn top_p_keeps_at_least_one_and_all_for_1() {
        let scores: Vec<f32> = (0..1_000).map(|i| (i * 37 % 1_000) as f32 * 1e-3).collect();
        let kept = |p: f64| {
            let mut found = list(&scores);
            let wanted = p * mass(&found);
            top_p(&mut found, wanted, &mut Vec::new());
            found
        };
        assert_eq!(tokens(&kept(0.0)), [27]); // 27 · 37 is the only 999.
        assert_eq!(kept(1.0).len(), 1_000);
        // Halved before it is sorted; by hand from the geometric sum, of e^(i / 1000) over the kept i.
        let share = |kept: usize| (1.0 - (-1e-3 * kept as f64).exp()) / (1.0 - (-1f64).exp());
        let half = kept(0.5).len();
        assert!(share(half - 1) < 0.5 && share(half) >= 0.5, "{half}");
        assert!(kept(0.5).is_sorted_by_key(|candidate| candidate.token));
    }

    #[test]
    fn min_p_measures_by_the_likeliest() {
        let mut found = list(&[0.0, 4f32.ln(), 1.9f32.ln(), 2.1f32.ln()]);
        min_p(&mut found, 0.5);
        assert_eq!(tokens(&found), [1, 3]);
    }

    #[test]
    fn a_draw_falls_where_the_shares_say() {
        let found = list(&[0.0, 3f32.ln(), 0.0]); // Shares 0.2, 0.6, 0.2.
        let drawn = [0.0, 0.199, 0.201, 0.799, 0.801, 1.0].map(|position| draw(&found, position));
        assert_eq!(drawn, [0, 0, 1, 1, 2, 2].map(Some));
        assert_eq!(draw(&[], 0.5), None);
    }

    #[test]
    fn only_tokens_with_their_bit_set_stay_possible() {
        let mut scores = [1.0; 70];
        allow(&mut scores, &[1 << 31, 0, 0b11]);
        let left: Vec<usize> = (0..70).filter(|&token| scores[token] == 1.0).collect();
        assert_eq!(left, [31, 64, 65]);
    }
}
