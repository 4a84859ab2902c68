//! The files that pairs are written to: for `datasets`, and for TRL.

use std::path::Path;

use collimate_data::{DatasetFolder, RowWriter, write_dataset_dict};
use collimate_judge::{Pair, Unpaired};
use serde_json::{Map, Value, json};

use super::aligned::Group;
use super::split::Split;
use super::{DATASET_FOLDER, TRAIN_FILE, UNPAIRED_FILE, VALIDATION_FILE, Verdicts};
use crate::Error;

/// The files in the making.
pub(super) struct Files {
    /// Of training and of validation.
    parts: [Part; 2],
    unpaired: RowWriter,
}

/// The pairs of one split, in both forms.
struct Part {
    table: DatasetFolder,
    lines: RowWriter,
}

impl Files {
    pub fn create(output: &Path) -> Result<Self, Error> {
        let dataset = output.join(DATASET_FOLDER);
        let part = |split: Split, lines: &str| -> Result<Part, Error> {
            let table = DatasetFolder::create(&dataset.join(split.name()))?;
            Ok(Part { table, lines: RowWriter::create(&output.join(lines))? })
        };
        let parts = [part(Split::Train, TRAIN_FILE)?, part(Split::Validation, VALIDATION_FILE)?];
        write_dataset_dict(&dataset, &Split::ALL.map(Split::name))?;
        Ok(Self { parts, unpaired: RowWriter::create(&output.join(UNPAIRED_FILE))? })
    }

    pub fn pair(&mut self, split: Split, group: &Group, pair: &Pair) -> Result<(), Error> {
        let Part { table, lines } = &mut self.parts[split as usize];
        table.write(&columns(json!({
            "conversations": [{ "from": "human", "value": group.prompt }],
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "test_id": group.test_id,
            "count": 1,
            "type": "None",
            "tag": group.tag,
            "chosen_id": group.chosen,
            "pair_type": pair.pair_type,
        })))?;
        let message = |role: &str, content: &str| json!([{ "role": role, "content": content }]);
        lines.write(&columns(json!({
            "prompt": message("user", &group.prompt),
            "chosen": message("assistant", &pair.chosen),
            "rejected": message("assistant", &pair.rejected),
        })))?;
        Ok(())
    }

    pub fn unpaired(
        &mut self,
        split: Split,
        group: &Group,
        reason: Unpaired,
        samples: &Verdicts,
    ) -> Result<(), Error> {
        let Verdicts { positive, negative, unknown } = samples;
        Ok(self.unpaired.write(&columns(json!({
            "test_id": group.test_id,
            "tag": group.tag,
            "split": split.name(),
            "reason": reason,
            "positive": positive,
            "negative": negative,
            "unknown": unknown,
        })))?)
    }

    pub fn finish(self) -> Result<(), Error> {
        for Part { table, lines } in self.parts {
            table.finish()?;
            lines.finish()?;
        }
        Ok(self.unpaired.finish()?)
    }
}

/// A row of these columns.
fn columns(row: Value) -> Map<String, Value> {
    match row {
        Value::Object(columns) => columns,
        _ => Map::new(),
    }
}
