//! What workers say to each other in words: JSON, as it holds values of any form.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A word as it is sent.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn encode(word: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(word).map_err(misunderstood)
}

/// A word as it is heard.
///
/// # Errors
/// Bytes that are no such word.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(misunderstood)
}

/// The error of a message that cannot be understood.
pub fn misunderstood(reason: impl ToString) -> Error {
    Error::Message { reason: reason.to_string() }
}
