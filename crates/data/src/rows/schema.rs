//! The columns of rows that are to become Parquet or Arrow: one type a field, found from all rows.
//!
//! `arrow-json` can infer a schema too, but in the random order of a hash map, and it turns fields of mixed types
//! into strings in silence.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// What a field holds, as far as the rows have shown.
#[derive(Default)]
enum Kind {
    #[default]
    Null,
    Boolean,
    Integer,
    Float,
    Text,
    List(Box<Kind>),
    Struct(Columns),
}

/// Fields in the order in which they were first seen.
#[derive(Default)]
pub(super) struct Columns {
    names: Vec<String>,
    kinds: HashMap<String, Kind>,
}

impl Columns {
    /// Widens the columns so that they hold this row too.
    pub fn add(&mut self, fields: &Map<String, Value>, row: u64) -> Result<()> {
        self.add_under("", fields, row)
    }

    fn add_under(&mut self, parent: &str, fields: &Map<String, Value>, row: u64) -> Result<()> {
        for (name, value) in fields {
            if !self.kinds.contains_key(name) {
                self.names.push(name.clone());
            }
            let kind = self.kinds.entry(name.clone()).or_default();
            kind.widen(&format!("{parent}{name}"), value, row)?;
        }
        Ok(())
    }

    /// The Arrow fields, all of them nullable.
    pub fn fields(&self) -> Fields {
        self.names.iter().map(|name| Field::new(name, self.kinds[name].data_type(), true)).collect()
    }
}

impl Kind {
    fn widen(&mut self, field: &str, value: &Value, row: u64) -> Result<()> {
        match (&mut *self, value) {
            (_, Value::Null) | (Self::Boolean, Value::Bool(_)) | (Self::Text, Value::String(_)) => {}
            (Self::Null, Value::Bool(_)) => *self = Self::Boolean,
            (Self::Null, Value::String(_)) => *self = Self::Text,
            (Self::Null | Self::Integer, Value::Number(number)) if number.is_i64() => *self = Self::Integer,
            (Self::Null | Self::Integer | Self::Float, Value::Number(_)) => *self = Self::Float,
            (Self::List(inner), Value::Array(items)) => {
                for item in items {
                    inner.widen(field, item, row)?;
                }
            }
            (Self::Struct(columns), Value::Object(fields)) => {
                columns.add_under(&format!("{field}."), fields, row)?;
            }
            (Self::Null, Value::Array(_)) => {
                *self = Self::List(Box::default());
                self.widen(field, value, row)?;
            }
            (Self::Null, Value::Object(_)) => {
                *self = Self::Struct(Columns::default());
                self.widen(field, value, row)?;
            }
            (earlier, _) => {
                let (expected, found) = (earlier.name(), super::json_lines::kind(value));
                return Err(Error::MixedColumn { row, field: field.to_owned(), expected, found });
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Integer | Self::Float => "a number",
            Self::Text => "a string",
            Self::List(_) => "a list",
            Self::Struct(_) => "an object",
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::List(inner) => DataType::List(Arc::new(Field::new_list_field(inner.data_type(), true))),
            Self::Struct(columns) => DataType::Struct(columns.fields()),
        }
    }
}

/// A schema that carries its features the way `datasets` looks for them.
pub(super) fn with_features(fields: Fields) -> Schema {
    let info = json!({ "info": { "features": features(&fields) } });
    Schema::new_with_metadata(fields, HashMap::from([("huggingface".to_owned(), info.to_string())]))
}

/// The `features` of dataset_info.json, in the spelling that all versions of `datasets` read.
pub(super) fn features(fields: &Fields) -> Value {
    Value::Object(fields.iter().map(|field| (field.name().clone(), feature(field.data_type()))).collect())
}

fn feature(data_type: &DataType) -> Value {
    match data_type {
        DataType::List(inner) => json!([feature(inner.data_type())]),
        DataType::Struct(fields) => features(fields),
        DataType::Boolean => json!({ "dtype": "bool", "_type": "Value" }),
        DataType::Int64 => json!({ "dtype": "int64", "_type": "Value" }),
        DataType::Float64 => json!({ "dtype": "float64", "_type": "Value" }),
        DataType::Utf8 => json!({ "dtype": "string", "_type": "Value" }),
        // `Kind::data_type` makes no others.
        _ => json!({ "dtype": "null", "_type": "Value" }),
    }
}
