//! The filter `tojson`, letter for letter as Python's `json.dumps`.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::number::python_float;

/// Deepest nesting that is written.
const MAX_DEPTH: usize = 200;

/// `json.dumps(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn filter(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(choice) => Some(choice),
        None => options.get("ensure_ascii")?,
    };
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    let indent = indent.filter(|indent| !indent.is_none()).map(indentation).transpose()?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let [between, after_key] = match separators.as_deref() {
        Some([between, after_key]) => [between.clone(), after_key.clone()],
        Some(_) => return Err(invalid("`separators` must be two strings".to_owned())),
        None if indent.is_some() => [",".to_owned(), ": ".to_owned()],
        None => [", ".to_owned(), ": ".to_owned()],
    };
    let style = Style {
        ensure_ascii: ensure_ascii.unwrap_or(false),
        sort_keys: sort_keys.unwrap_or(false),
        indent,
        between,
        after_key,
    };
    let mut writer = Writer { state, style, text: String::new() };
    writer.value(value, 0)?;
    Ok(writer.text)
}

fn indentation(indent: Value) -> Result<Indent, Error> {
    match indent.as_str() {
        Some(unit) => Ok(Indent { unit: unit.to_owned(), times: 1 }),
        None => {
            let times = i64::try_from(indent)?;
            Ok(Indent { unit: " ".to_owned(), times: usize::try_from(times).unwrap_or(0) })
        }
    }
}

struct Indent {
    unit: String,
    times: usize,
}

struct Style {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<Indent>,
    between: String,
    after_key: String,
}

struct Writer<'a> {
    state: &'a State<'a, 'a>,
    style: Style,
    text: String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("the value is nested deeper than {MAX_DEPTH} levels")));
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth),
            ValueKind::Map => self.map(value, depth),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            _ => {
                let text = scalar(value)?;
                self.push(&text)
            }
        }
    }

    fn list(&mut self, list: &Value, depth: usize) -> Result<(), Error> {
        self.push("[")?;
        let mut empty = true;
        for item in list.try_iter()? {
            self.begin_item(empty, depth + 1)?;
            empty = false;
            self.value(&item, depth + 1)?;
        }
        self.end(empty, depth)?;
        self.push("]")
    }

    fn map(&mut self, map: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = map.try_iter()?.collect();
        if self.style.sort_keys {
            keys.sort();
        }
        self.push("{")?;
        for (index, key) in keys.iter().enumerate() {
            self.begin_item(index == 0, depth + 1)?;
            match key.as_str() {
                Some(name) => self.string(name)?,
                None => {
                    let name = scalar(key)?;
                    self.string(&name)?;
                }
            }
            let after_key = self.style.after_key.clone();
            self.push(&after_key)?;
            self.value(&map.get_item(key)?, depth + 1)?;
        }
        self.end(keys.is_empty(), depth)?;
        self.push("}")
    }

    fn begin_item(&mut self, first: bool, depth: usize) -> Result<(), Error> {
        if !first {
            let between = self.style.between.clone();
            self.push(&between)?;
        }
        self.new_line(depth)
    }

    fn end(&mut self, empty: bool, depth: usize) -> Result<(), Error> {
        if empty { Ok(()) } else { self.new_line(depth) }
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(Indent { unit, times }) = &self.style.indent else { return Ok(()) };
        let times = times.saturating_mul(depth);
        self.charge(unit.len().saturating_mul(times))?;
        self.text.push('\n');
        self.text.push_str(&unit.repeat(times));
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.charge(text.len())?;
        self.text.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                control if control < ' ' => self.escape(control),
                wide if self.style.ensure_ascii && wide > '~' => self.escape(wide),
                plain => self.text.push(plain),
            }
        }
        self.text.push('"');
        Ok(())
    }

    /// `\uXXXX`, in two halves above the basic plane.
    fn escape(&mut self, letter: char) {
        for half in letter.encode_utf16(&mut [0; 2]) {
            self.text.push_str(&format!("\\u{half:04x}"));
        }
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.charge(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    /// Shared parts can make the text far longer than the value, so each piece is paid for as it is written.
    fn charge(&self, bytes: usize) -> Result<(), Error> {
        self.state.consume_fuel(1 + (bytes / 16) as u64)
    }
}

/// What is neither text nor a container.
fn scalar(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        ValueKind::Number => Ok(python_float(f64::try_from(value.clone())?)),
        kind => Err(invalid(format!("a value of type {kind} cannot be written as JSON"))),
    }
}

fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
