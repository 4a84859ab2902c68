//! A text as a set of hashed word triples.

/// Words in a shingle.
const WIDTH: usize = 3;

/// The hashes of all runs of three words, sorted, each once; of a text with fewer words, the hash of what there is.
///
/// Words are runs of letters and digits in lower case. A character of a script that is written without spaces,
/// and any other visible character, is a word of its own: `a + b` and `a - b` are different texts.
pub(super) fn shingles(text: &str) -> Box<[u64]> {
    let words = words(text);
    let mut hashes: Vec<u64> =
        if words.len() < WIDTH { vec![combine(&words)] } else { words.windows(WIDTH).map(combine).collect() };
    hashes.sort_unstable();
    hashes.dedup();
    hashes.into_boxed_slice()
}

/// Shared shingles divided by all shingles of the two sets, both sorted.
pub(super) fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                shared += 1;
                i += 1;
                j += 1;
            }
        }
    }
    shared as f64 / (a.len() + b.len() - shared) as f64
}

/// The hash of each word, in the order of the text.
fn words(text: &str) -> Vec<u64> {
    let mut words = Vec::new();
    let mut word = None;
    for character in text.chars() {
        if character.is_alphanumeric() && !stands_alone(character) {
            let start = word.unwrap_or(FNV_OFFSET);
            word = Some(character.to_lowercase().fold(start, absorb));
            continue;
        }
        words.extend(word.take());
        if !character.is_whitespace() {
            words.push(absorb(FNV_OFFSET, character));
        }
    }
    words.extend(word);
    words
}

/// Chinese characters, kana and the scripts of South-East Asia, which put no spaces between words.
fn stands_alone(character: char) -> bool {
    matches!(
        u32::from(character),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x4dbf
            | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff
    )
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, a character at a time.
fn absorb(hash: u64, character: char) -> u64 {
    (hash ^ u64::from(u32::from(character))).wrapping_mul(FNV_PRIME)
}

/// One hash of some words in their order.
fn combine(words: &[u64]) -> u64 {
    words.iter().fold(FNV_OFFSET, |hash, word| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarity_counts_triples() {
        // {abc, bcd} and {abc, bce}: one shared of three.
        assert_eq!(jaccard(&shingles("a b c d"), &shingles("A b C e")), 1.0 / 3.0);
        assert_eq!(jaccard(&shingles("one two"), &shingles("one  two")), 1.0);
        assert_eq!(jaccard(&shingles("x = a + b"), &shingles("x = a - b")), 1.0 / 5.0);
        // {今天天, 天天气, 天气好} and {今天天, 天天气, 天气坏}.
        assert_eq!(jaccard(&shingles("今天天气好"), &shingles("今天天气坏")), 0.5);
    }
}
