//! Commands of the judge pipeline.

use super::Entry;

/// The commands.
pub const COMMANDS: &[Entry] = &[];
