//! Values as text, paid for while it is made: shared parts can make the text of a small value endless.

use std::fmt::{self, Write};

use minijinja::{Error, Output, State, Value, escape_formatter};

/// Bytes of a list's or dictionary's text that one step of the budget pays for, as in the library's accounting.
const BYTES_PER_STEP: u64 = 4;

/// Writes a value where the template prints it.
pub(super) fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.as_object().is_none() {
        return escape_formatter(out, state, value);
    }
    out.write_str(&spell(state, value)?).map_err(Error::from)
}

/// The filter `string`.
pub(super) fn string(state: &State, value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(_) => Ok(value.clone()),
        None => spell(state, value).map(Value::from),
    }
}

/// The text of any value; fails when the budget is used up.
pub(super) fn spell(state: &State, value: &Value) -> Result<String, Error> {
    let steps = state.fuel_levels().map_or(0, |(_, left)| left);
    let room = usize::try_from(steps.saturating_mul(BYTES_PER_STEP)).unwrap_or(usize::MAX);
    let mut text = Bounded { text: String::new(), room };
    if write!(text, "{value}").is_err() {
        state.consume_fuel(steps)?;
    }
    state.consume_fuel(text.text.len() as u64 / BYTES_PER_STEP)?;
    Ok(text.text)
}

struct Bounded {
    text: String,
    room: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.room = self.room.checked_sub(piece.len()).ok_or(fmt::Error)?;
        self.text.push_str(piece);
        Ok(())
    }
}
