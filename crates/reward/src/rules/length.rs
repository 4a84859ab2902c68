//! `length:MIN-MAX`: 1 for a completion of so many characters, less for one that is shorter or longer.
//!
//! Of n characters, without the white space around them: n / MIN below MIN, and MAX / n above MAX, so that every step
//! towards the range pays. Either bound may be left out.

use super::Mark;

pub(super) fn open(range: &str) -> Result<Mark, String> {
    let (least, most) = bounds(range).ok_or_else(|| {
        "the range of characters must be MIN-MAX, MIN- or -MAX, with MIN up to MAX".to_owned()
    })?;
    Ok(Box::new(move |item| {
        let length = item.completion.trim().chars().count();
        Ok(if length < least {
            length as f64 / least as f64
        } else if length > most {
            most as f64 / length as f64
        } else {
            1.0
        })
    }))
}

fn bounds(range: &str) -> Option<(usize, usize)> {
    let (least, most) = range.split_once('-').filter(|ends| *ends != ("", ""))?;
    let end = |text: &str, absent: usize| if text.is_empty() { Some(absent) } else { text.parse().ok() };
    Some((end(least, 0)?, end(most, usize::MAX)?)).filter(|(least, most)| least <= most)
}
