//! Checkpoints: `checkpoint-N/` with the parameters, the optimiser and the state, whole or not at all.
//!
//! A checkpoint is written under another name, closed by `DONE` with the hash of every file, and renamed. One that
//! is torn or damaged all the same is recognised by its hashes, and the one before it is used.

use crate::learner::Learner;
use crate::{AdamW, AdamWSettings, Result, TrainerState};
use collimate_model::{DecoderConfig, Trainable};
use collimate_run::{Event, Reporter, atomic};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const PREFIX: &str = "checkpoint-";
const UNFINISHED: &str = ".unfinished-checkpoint-";
const OPTIMISER: &str = "optimizer.safetensors";
const REFERENCE: &str = "reference.safetensors";
const DONE: &str = "DONE";

/// The file with the training's state, in a checkpoint and beside the result.
pub const STATE: &str = "trainer_state.json";

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Checkpoint {
    /// The adapter, or all weights.
    pub parameters: Trainable,
    /// The optimiser.
    pub optimiser: AdamW,
    /// The state.
    pub state: TrainerState,
    /// The values of the reference model's adapter, if the reference has moved.
    pub reference: Option<Vec<f32>>,
}

/// The name of a step's checkpoint in the output folder.
pub fn name(step: u64) -> String {
    format!("{PREFIX}{step}")
}

/// Writes the checkpoint of the state's step into `output`; replaces an older one of the same step. `save_more` writes
/// what else belongs to it.
pub fn save(
    output: &Path,
    learner: &Learner,
    state: &TrainerState,
    save_more: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let unfinished = output.join(format!("{UNFINISHED}{}", state.global_step));
    remove_folder(&unfinished)?;
    fs::create_dir_all(&unfinished).map_err(|source| collimate_run::Error::write(&unfinished, source))?;
    learner.parameters.save(&unfinished)?;
    atomic::write(unfinished.join(OPTIMISER), &optimiser_bytes(&learner.optimiser)?)?;
    if let Some(reference) = &learner.reference {
        let values = ("values", Dtype::F32, bytes(&reference.values));
        atomic::write(unfinished.join(REFERENCE), &tensor_file(REFERENCE, &[values])?)?;
    }
    write_state(&unfinished, state)?;
    save_more(&unfinished)?;
    let hashes = hash_files(&unfinished)?;
    atomic::write(unfinished.join(DONE), &to_json(&hashes)?)?;

    let finished = output.join(name(state.global_step));
    remove_folder(&finished)?;
    fs::rename(&unfinished, &finished).map_err(|source| collimate_run::Error::write(&finished, source))?;
    sync_folder(output)
}

/// Writes `trainer_state.json` into a folder.
pub fn write_state(folder: &Path, state: &TrainerState) -> Result<()> {
    Ok(atomic::write(folder.join(STATE), &to_json(state)?)?)
}

/// The newest whole checkpoint of `output`, if there is any, with parameters of the kind of `like`; damaged ones are
/// passed over with a warning.
pub fn latest(
    output: &Path,
    (like, decoder): (&Trainable, &DecoderConfig),
    settings: AdamWSettings,
    reporter: &dyn Reporter,
) -> Result<Option<Checkpoint>> {
    for (step, path) in list(output)?.into_iter().rev() {
        match load(&path, (like, decoder), settings) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(damage) => {
                let message = format!("{}{step} is damaged and is passed over: {damage}", PREFIX);
                reporter.report(Event::Warning(&message));
            }
        }
    }
    Ok(None)
}

/// Removes the oldest checkpoints until `limit` are left; never the newest, nor the one of step `best`.
pub fn prune(output: &Path, limit: Option<usize>, best: Option<u64>) -> Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    let checkpoints = list(output)?;
    let excess = checkpoints.len().saturating_sub(limit);
    let newest = checkpoints.last().map(|&(step, _)| step);
    let removable = checkpoints.iter().filter(|&&(step, _)| Some(step) != newest && Some(step) != best);
    for (_, path) in removable.take(excess) {
        remove_folder(path)?;
    }
    Ok(())
}

/// Removes what a killed run left half written.
pub fn remove_unfinished(output: &Path) -> Result<()> {
    for name in folder_names(output)?.iter().filter(|name| name.starts_with(UNFINISHED)) {
        remove_folder(&output.join(name))?;
    }
    Ok(())
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("{0} is missing or does not have its hash")]
    Hash(String),
    #[error("{0} is not in its format")]
    Format(&'static str),
    #[error("optimiser and model do not have the same number of parameters")]
    Size,
    #[error(transparent)]
    Model(#[from] collimate_model::Error),
}

fn load(
    path: &Path,
    (like, decoder): (&Trainable, &DecoderConfig),
    settings: AdamWSettings,
) -> Result<Checkpoint, Damage> {
    let read = |name: &str| fs::read(path.join(name)).map_err(|_| Damage::Hash(name.to_owned()));
    let hashes: BTreeMap<String, String> =
        serde_json::from_slice(&read(DONE)?).map_err(|_| Damage::Format(DONE))?;
    for (name, hash) in &hashes {
        if blake3::hash(&read(name)?).to_hex().as_str() != hash {
            return Err(Damage::Hash(name.clone()));
        }
    }
    let state = serde_json::from_slice(&read(STATE)?).map_err(|_| Damage::Format(STATE))?;
    let parameters = like.load_like(path, decoder)?;
    let count = parameters.values().len();
    let optimiser = optimiser_from_bytes(&read(OPTIMISER)?, settings).ok_or(Damage::Format(OPTIMISER))?;
    if optimiser.mean.len() != count || optimiser.square.len() != count {
        return Err(Damage::Size);
    }
    let reference = match hashes.contains_key(REFERENCE) {
        true => Some(read_floats(&read(REFERENCE)?, "values").ok_or(Damage::Format(REFERENCE))?),
        false => None,
    };
    if reference.as_ref().is_some_and(|values| values.len() != count) {
        return Err(Damage::Size);
    }
    Ok(Checkpoint { parameters, optimiser, state, reference })
}

/// The checkpoints in a folder, by step.
fn list(output: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let step = |name: &String| name.strip_prefix(PREFIX)?.parse().ok();
    let names = folder_names(output)?;
    let mut found: Vec<_> = names.iter().filter_map(|name| Some((step(name)?, output.join(name)))).collect();
    found.sort_unstable();
    Ok(found)
}

fn folder_names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|source| collimate_run::Error::read(folder, source))?;
    let mut names: Vec<String> =
        entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

fn hash_files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let hash = |name: String| {
        let path = folder.join(&name);
        let bytes = fs::read(&path).map_err(|source| collimate_run::Error::read(&path, source))?;
        Ok((name, blake3::hash(&bytes).to_hex().to_string()))
    };
    folder_names(folder)?.into_iter().map(hash).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The content of a safetensors file of vectors.
fn tensor_file(name: &str, vectors: &[(&str, Dtype, Vec<u8>)]) -> Result<Vec<u8>> {
    let written = vectors
        .iter()
        .map(|vector| {
            let (name, dtype, bytes) = vector;
            let len = bytes.len() * 8 / dtype.bitsize();
            Ok((*name, TensorView::new(*dtype, vec![len], bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .and_then(|tensors| safetensors::serialize(tensors, None));
    let invalid = |source| std::io::Error::new(std::io::ErrorKind::InvalidInput, source);
    Ok(written.map_err(|source| collimate_run::Error::write(name, invalid(source)))?)
}

fn read_floats(file: &[u8], name: &str) -> Option<Vec<f32>> {
    let tensors = SafeTensors::deserialize(file).ok()?;
    let tensor = tensors.tensor(name).ok().filter(|tensor| tensor.dtype() == Dtype::F32)?;
    let (floats, _) = tensor.data().as_chunks();
    Some(floats.iter().map(|&float| f32::from_le_bytes(float)).collect())
}

fn optimiser_bytes(optimiser: &AdamW) -> Result<Vec<u8>> {
    let vectors = [
        ("exp_avg", Dtype::F32, bytes(&optimiser.mean)),
        ("exp_avg_sq", Dtype::F32, bytes(&optimiser.square)),
        ("step", Dtype::U64, optimiser.step.to_le_bytes().to_vec()),
    ];
    tensor_file(OPTIMISER, &vectors)
}

fn optimiser_from_bytes(bytes: &[u8], settings: AdamWSettings) -> Option<AdamW> {
    let mut optimiser = AdamW::new(settings, 0);
    (optimiser.mean, optimiser.square) = (read_floats(bytes, "exp_avg")?, read_floats(bytes, "exp_avg_sq")?);
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    optimiser.step = u64::from_le_bytes(tensors.tensor("step").ok()?.data().try_into().ok()?);
    Some(optimiser)
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_vec_pretty(value);
    Ok(json.map_err(|source| collimate_run::Error::write(STATE, source.into()))?)
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(collimate_run::Error::write(path, error).into())
        }
        _ => Ok(()),
    }
}

/// Makes the renames in a folder last through a power cut, where folders can be opened as files.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    Ok(synced.map_err(|source| collimate_run::Error::write(folder, source))?)
}
