//! An object, followed from its brace to its end as leniently as can be without guessing where strings end.

use super::words::{closers, is_blank, is_key, is_quote, number, plain, start_of_number};
use crate::Number;

/// How far an object could be followed.
#[derive(Debug, PartialEq)]
pub(super) enum Object {
    /// To its closing brace, which ends at this byte; the last verdict among its members and those of objects
    /// in it, with the byte at which its number is written.
    Whole { end: usize, verdict: Option<(Number, usize)> },
    /// To the end of the text; the last verdict until then.
    CutOff(Option<(Number, usize)>),
    /// To this byte, where something stands that cannot stand there.
    Broken { at: usize },
}

/// Follows the object whose brace stands at byte `start`. Looks at no byte twice, and is without recursion.
///
/// Whatever is JSON is read as JSON. Beyond it: quotes of other kinds or none, full-width signs, line ends
/// within strings, trailing commas.
pub(super) fn read(text: &str, start: usize) -> Object {
    let mut reader = Reader { text, at: start, open: Vec::new(), verdict: None };
    match reader.follow() {
        Ok(()) => Object::Whole { end: reader.at, verdict: reader.verdict },
        Err(Stop::End) => Object::CutOff(reader.verdict),
        Err(Stop::Broken) => Object::Broken { at: reader.at },
    }
}

/// Why an object could not be followed further.
enum Stop {
    End,
    Broken,
}

/// What may come next.
#[derive(Clone, Copy)]
enum Next {
    /// A member or an element, or the end of what holds it.
    Item,
    /// The value of a member; of a verdict or not.
    Value { of_verdict: bool },
    /// A comma, or the end of what holds the item.
    Separator,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The brackets that are open, each as the one that closes it.
    open: Vec<char>,
    verdict: Option<(Number, usize)>,
}

/// A string, or a text without quotes.
struct Scalar<'a> {
    content: &'a str,
    /// The byte at which the content begins.
    at: usize,
    /// Whether it was all there.
    end: Result<(), Stop>,
}

impl<'a> Reader<'a> {
    fn follow(&mut self) -> Result<(), Stop> {
        let mut next = Next::Value { of_verdict: false };
        loop {
            let letter = self.visible()?;
            next = match (next, plain(letter)) {
                (Next::Item | Next::Separator, '}' | ']') => {
                    self.close(letter)?;
                    if self.open.is_empty() {
                        return Ok(());
                    }
                    Next::Separator
                }
                (Next::Separator, ',') => {
                    self.pass(letter);
                    Next::Item
                }
                (Next::Separator, _) => return Err(Stop::Broken),
                (Next::Item, _) if self.open.last() == Some(&'}') => {
                    let of_verdict = is_key(self.scalar(&[':', ',', '{', '}', '\n'])?.content);
                    let colon = self.visible()?;
                    if plain(colon) != ':' {
                        return Err(Stop::Broken);
                    }
                    self.pass(colon);
                    Next::Value { of_verdict }
                }
                (Next::Item | Next::Value { .. }, '{' | '[') => {
                    self.open.push(if plain(letter) == '{' { '}' } else { ']' });
                    self.pass(letter);
                    Next::Item
                }
                (Next::Item | Next::Value { .. }, _) => {
                    let Scalar { content, at, end } = self.scalar(&[',', '}', ']', '{', '[', '`', '\n'])?;
                    if matches!(next, Next::Value { of_verdict: true }) {
                        let named = number(content).map(|number| (number, at + start_of_number(content)));
                        self.verdict = named.or(self.verdict);
                    }
                    end?;
                    Next::Separator
                }
            };
        }
    }

    /// A string, or a text without quotes up to one of these signs.
    fn scalar(&mut self, ends: &[char]) -> Result<Scalar<'a>, Stop> {
        let opener = self.visible()?;
        if let Some(closers) = closers(opener) {
            self.pass(opener);
            return Ok(self.string(closers));
        }
        let rest = &self.text[self.at..];
        let length = rest.find(|letter| ends.contains(&plain(letter)) || is_quote(letter));
        let content = &rest[..length.unwrap_or(rest.len())];
        if content.is_empty() {
            return Err(Stop::Broken);
        }
        let at = self.at;
        self.at += content.len();
        Ok(Scalar { content, at, end: length.map(|_| ()).ok_or(Stop::End) })
    }

    /// The content of a string whose opening quote is passed.
    fn string(&mut self, closers: &[char]) -> Scalar<'a> {
        let at = self.at;
        let rest = &self.text[self.at..];
        let mut letters = rest.char_indices();
        while let Some((length, letter)) = letters.next() {
            if letter == '\\' {
                letters.next();
            } else if closers.contains(&letter) {
                self.at += length + letter.len_utf8();
                return Scalar { content: &rest[..length], at, end: Ok(()) };
            }
        }
        self.at = self.text.len();
        Scalar { content: rest, at, end: Err(Stop::End) }
    }

    fn close(&mut self, bracket: char) -> Result<(), Stop> {
        if self.open.pop() != Some(plain(bracket)) {
            return Err(Stop::Broken);
        }
        self.pass(bracket);
        Ok(())
    }

    /// The next character that is not blank.
    fn visible(&mut self) -> Result<char, Stop> {
        let rest = self.text[self.at..].trim_start_matches(is_blank);
        self.at = self.text.len() - rest.len();
        rest.chars().next().ok_or(Stop::End)
    }

    fn pass(&mut self, letter: char) {
        self.at += letter.len_utf8();
    }
}
