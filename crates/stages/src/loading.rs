//! What several stages do first: read instructions, tokenise the data, pack the weights.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use collimate_data::{
    Examples, InstructionRow, Rejects, SftFormat, SftOptions, read_instructions, sft_examples,
};
use collimate_engine::{CpuEngine, CpuOptions, Quantisation};
use collimate_model::{Model, Tokenizer};
use collimate_run::team::Team;
use collimate_run::{Context, Event, available_memory};

use crate::Error;

/// Rows between two progress events.
const REPORT_EVERY: u64 = 500;

/// What a stage reads that only counts a model's tokens: of a folder the tokenizer, as the weights do not matter.
pub(crate) fn tokenizer_input(model: &Path) -> PathBuf {
    let within = model.join("tokenizer.json");
    if within.exists() { within } else { model.to_owned() }
}

/// Bytes that this worker may count on, of those that are free on its machine: an even share with its neighbours.
///
/// Neighbours look at different moments. It is taken that they hold alike and load at about the same time: who looks
/// after another has loaded has that one's weights taken from its share too, and so keeps to less than it could.
pub(crate) fn free_memory(team: &dyn Team) -> Option<u64> {
    available_memory().map(|bytes| bytes / team.neighbours().max(1) as u64)
}

/// Hands every good row of the files to `each`, under way as `task`; returns the number of rows read.
pub(crate) fn each_instruction(
    task: &str,
    files: &[PathBuf],
    rejects: &mut Rejects,
    context: &Context,
    mut each: impl FnMut(InstructionRow<'_>) -> Result<(), collimate_data::Error>,
) -> Result<u64, collimate_data::Error> {
    context.report(Event::Started { task, total: None, unit: "rows" });
    let mut done = 0;
    let read = read_instructions(files, rejects, |row| {
        context.check()?;
        done += 1;
        if done % REPORT_EVERY == 0 {
            context.report(Event::Advanced { done, fields: &[] });
        }
        each(row)
    })?;
    context.report(Event::Advanced { done, fields: &[] });
    context.report(Event::Finished);
    Ok(read)
}

/// How the rows of a data file become sequences.
#[derive(Debug, Clone)]
pub(crate) struct Tokenising<'a> {
    pub tokenizer: &'a Tokenizer,
    pub max_length: usize,
    pub completion_only: bool,
    /// The name of the rows' format, if it was given.
    pub format: Option<&'a str>,
    /// Whether a bad row ends it all; else it goes to `rejects`.
    pub strict: bool,
    pub rejects: PathBuf,
}

/// Reads and tokenises a data file; says what was lost on the way.
pub(crate) fn tokenise(path: &Path, how: Tokenising<'_>, context: &Context) -> Result<Examples, Error> {
    let options = SftOptions {
        max_length: how.max_length,
        completion_only: how.completion_only,
        format: how.format.map(str::parse::<SftFormat>).transpose()?,
        strict: how.strict,
        rejects: Some(how.rejects),
    };
    context.report(Event::Started { task: "tokenising", total: None, unit: "examples" });
    let found = sft_examples(path, how.tokenizer, &options)?;
    context.report(Event::Advanced { done: found.examples.len() as u64, fields: &[] });
    context.report(Event::Finished);
    let losses = [
        (found.truncated, "were cut to max_length"),
        (found.skipped, "have no token to train on and are left out"),
        (found.rejected, "are bad and stand in the file of rejects"),
    ];
    for (count, what) in losses.into_iter().filter(|&(count, _)| count > 0) {
        context.report(Event::Note(&format!("{}: {count} rows {what}", path.display())));
    }
    Ok(found)
}

/// Reads the weights and makes them ready for the CPU.
pub(crate) fn load_engine(model: &Model, options: CpuOptions, context: &Context) -> Result<CpuEngine, Error> {
    let total = Some(model.config().num_hidden_layers as u64);
    context.report(Event::Started { task: "loading the model", total, unit: "layers" });
    let progress = |layers: usize| context.report(Event::Advanced { done: layers as u64, fields: &[] });
    let engine = context.busy(|| CpuEngine::load(model, options, progress))?;
    context.report(Event::Finished);
    if options.quantise != Quantisation::None {
        let (bytes, weights) = engine.layer_weights();
        let each = bytes as f64 / weights.max(1) as f64;
        let (kind, bytes) = (options.quantise, ByteSize(bytes).display().si());
        context.report(Event::Note(&format!(
            "the layers' weights take {bytes} in {kind}, {each:.3} bytes each"
        )));
    }
    if engine.arithmetic() != options.dtype {
        let (asked, used) = (options.dtype, engine.arithmetic());
        context.report(Event::Warning(&format!("this machine does not multiply in {asked}: {used} is used")));
    }
    Ok(engine)
}
