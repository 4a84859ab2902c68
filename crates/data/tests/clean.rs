//! Cleaning real data.

use crate::common::real_data;
use collimate_data::clean::{Cleaner, Verdict};
use collimate_data::{Instruction, InstructionRow, Rejects, Result, read_instructions};

#[derive(Debug, Default, PartialEq)]
struct Counts {
    kept: u64,
    emptied: u64,
    no_instruction: u64,
    no_output: u64,
    exact: u64,
    near: u64,
}

/// Cleans a file, checks each verdict, and counts.
fn clean(name: &str) -> Option<Counts> {
    let path = real_data(name)?;
    let (mut cleaner, mut counts) = (Cleaner::new(0.9, 42).unwrap(), Counts::default());
    let mut kept: Vec<Instruction> = Vec::new();
    let mut rejects = Rejects::new(None, false);
    let sort = |found: InstructionRow| -> Result<()> {
        let before = found.instruction.clone();
        match cleaner.clean(found.instruction) {
            Verdict::Kept { row, input_emptied } => {
                assert!(!row.output.is_empty() && row.output.trim() == row.output);
                assert_eq!(input_emptied, row.input.is_empty() && !before.input.trim().is_empty());
                counts.kept += 1;
                counts.emptied += u64::from(input_emptied);
                kept.push(row);
            }
            Verdict::EmptyInstruction => counts.no_instruction += 1,
            Verdict::EmptyOutput => counts.no_output += 1,
            Verdict::ExactDuplicate { of } => {
                counts.exact += 1;
                assert_eq!(kept[of as usize - 1].output, before.output.trim());
            }
            Verdict::NearDuplicate { of, similarity } => {
                counts.near += 1;
                assert!(similarity >= 0.9 && kept.len() as u64 >= of);
            }
        }
        Ok(())
    };
    read_instructions(&[path], &mut rejects, sort).unwrap();
    Some(counts)
}

/// The counts of empty outputs and exact duplicates are those that Python finds; both of the near duplicates of the
/// second file and the one of the last are the same task in other words.
#[test]
fn cleans_real_files() {
    let cases = [
        ("alpaca_data.json.gz", [20_668, 287, 0, 10, 0, 0]),
        ("alpaca_libre/alpaca_libre_tasks_v1.jsonl.gz", [2_131, 371, 0, 237, 5, 2]),
        ("llamafactory/alpaca_en_demo.json.gz", [985, 8, 0, 0, 14, 0]),
        ("llamafactory/alpaca_zh_demo.json.gz", [992, 0, 0, 0, 8, 0]),
        ("code_alpaca_raw.json.gz", [6_549, 1, 0, 2, 0, 1]),
    ];
    for (name, [kept, emptied, no_instruction, no_output, exact, near]) in cases {
        let Some(counts) = clean(name) else { continue };
        assert_eq!(counts, Counts { kept, emptied, no_instruction, no_output, exact, near }, "{name}");
    }
}
