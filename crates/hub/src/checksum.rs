//! What a file should be, by the tag that the Hub gives it, and what it is.

use std::fmt::Write;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What the Hub says of a file's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Of a large file: the SHA-256 of its bytes.
    Sha256(String),
    /// Of a small file: its name in git, the SHA-1 of the word `blob`, its length and its bytes.
    Git(String),
    /// A mirror's own tag, by which nothing can be checked.
    Unknown(String),
}

impl Checksum {
    /// The checksum in a tag; none where the tag cannot be a file's name in the cache.
    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        let tag = tag.trim_start_matches("W/").trim_matches('"');
        let hexadecimal =
            tag.bytes().all(|letter| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter));
        let plain = tag.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_".contains(&letter));
        match tag.len() {
            64 if hexadecimal => Some(Self::Sha256(tag.to_owned())),
            40 if hexadecimal => Some(Self::Git(tag.to_owned())),
            1..=128 if plain => Some(Self::Unknown(tag.to_owned())),
            _ => None,
        }
    }

    /// The tag, under which the file stands in the cache.
    pub(crate) fn tag(&self) -> &str {
        match self {
            Self::Sha256(tag) | Self::Git(tag) | Self::Unknown(tag) => tag,
        }
    }

    /// What takes the bytes of a file of this length.
    pub(crate) fn hasher(&self, length: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::Git(_) => Hasher::Git(Sha1::new_with_prefix(format!("blob {length}\0"))),
            Self::Unknown(_) => Hasher::None,
        }
    }
}

/// A checksum in the making.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
    None,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
            Self::None => {}
        }
    }

    /// The checksum in hexadecimal, if one was made.
    pub(crate) fn finish(self) -> Option<String> {
        match self {
            Self::Sha256(hasher) => Some(hexadecimal(&hasher.finalize())),
            Self::Git(hasher) => Some(hexadecimal(&hasher.finalize())),
            Self::None => None,
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(tag: &str, bytes: &[u8]) -> Option<String> {
        let mut hasher = Checksum::of_tag(tag)?.hasher(bytes.len() as u64);
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn a_tag_is_the_checksum_of_its_bytes() {
        // `printf 'hello\n' | git hash-object --stdin`, and `| sha256sum`.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for tag in [git, sha256] {
            assert_eq!(checked(&format!("\"{tag}\""), b"hello\n").as_deref(), Some(tag));
            assert_eq!(checked(&format!("W/\"{tag}\""), b"hello\n").as_deref(), Some(tag));
        }
    }

    #[test]
    fn a_tag_that_is_no_file_name_is_none() {
        for tag in ["", "..", "a/b", "a\\b", "a b", &"a".repeat(129)] {
            assert_eq!(Checksum::of_tag(tag), None, "{tag}");
        }
        assert_eq!(Checksum::of_tag("\"6-x_Y\""), Some(Checksum::Unknown("6-x_Y".to_owned())));
    }
}
