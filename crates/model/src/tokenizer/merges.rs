//! Merges recovered from a vocabulary with scores, for SentencePiece models whose file lists none.

use tokenizers::models::bpe::{Merges, Vocab};

/// Longest piece, in bytes, that is taken apart; SentencePiece makes them 16 letters long unless told otherwise.
pub(super) const LONGEST_PIECE: usize = 512;

/// All ways to make a piece of two others, the best-scored piece first.
///
/// Of the ways to make one piece, that with the longest left part comes first, as in transformers'
/// `generate_merges`; of pieces with the same score, longer left and right parts, then the vocabulary's order.
pub(crate) fn from_scores(tokens: &[String], scores: &[f32], vocab: &Vocab) -> Merges {
    let mut found: Vec<Pair<'_>> = tokens
        .iter()
        .zip(scores)
        .flat_map(|(token, score)| {
            let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
            cuts.filter_map(|(left, right)| Pair::new(left, right, *score, vocab))
        })
        .collect();
    found.sort_by(|one, other| {
        // A file may hold scores that are no numbers, which must have their place too; both zeros are one score.
        let score = (other.score + 0.0).total_cmp(&(one.score + 0.0));
        score.then_with(|| other.letters.cmp(&one.letters))
    });
    found.into_iter().map(|pair| (pair.left.to_owned(), pair.right.to_owned())).collect()
}

struct Pair<'a> {
    left: &'a str,
    right: &'a str,
    score: f32,
    letters: (usize, usize),
}

impl<'a> Pair<'a> {
    fn new(left: &'a str, right: &'a str, score: f32, vocab: &Vocab) -> Option<Self> {
        let known = vocab.contains_key(left) && vocab.contains_key(right);
        known.then(|| Self { left, right, score, letters: (left.chars().count(), right.chars().count()) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Vocab, from_scores};

    #[test]
    fn better_scores_come_first_and_ties_go_to_the_longer_left_part() {
        let tokens = ["a", "b", "ab", "aba", "ba"].map(str::to_owned);
        let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
        let merges = from_scores(&tokens, &[0.0, 0.0, -2.0, -1.0, -3.0], &vocab);
        let spelled: Vec<String> = merges.iter().map(|(left, right)| format!("{left}+{right}")).collect();
        assert_eq!(spelled, ["ab+a", "a+ba", "a+b", "b+a"]);
    }
    #[test]
    fn scores_that_are_no_numbers_are_put_in_some_order() {
        let tokens: Vec<String> = (1..100).map(|len| "a".repeat(len)).collect();
        let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
        let scores: Vec<f32> =
            (1..100_u16).map(|n| if n % 3 == 0 { f32::NAN } else { f32::from(n * 37 % 101) }).collect();
        assert_eq!(from_scores(&tokens, &scores, &vocab).len(), (1..100).map(|len| len - 1).sum::<usize>());
    }
}
