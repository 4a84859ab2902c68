//! Checkpoints: `checkpoint-N/` with the parameters, the optimiser and the state, whole or not at all.
//!
//! A checkpoint is written under another name, closed by `DONE` with the hash of every file, and renamed. One that
//! is torn or damaged all the same is recognised by its hashes, and the one before it is used.

use crate::learner::Learner;
use crate::{AdamW, AdamWSettings, Error, Moment, Result, TrainerState};
use collimate_model::{DecoderConfig, Trainable};
use collimate_run::{Event, Reporter, atomic};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::borrow::Cow;
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
    write_vectors(&unfinished.join(OPTIMISER), &optimiser_vectors(&learner.optimiser))?;
    if let Some(reference) = &learner.reference {
        let values = ("values", Dtype::F32, bytes(&reference.values));
        write_vectors(&unfinished.join(REFERENCE), &[values])?;
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

/// The checkpoint of a step, which another worker has found whole.
pub fn of_step(
    output: &Path,
    step: u64,
    kind: (&Trainable, &DecoderConfig),
    settings: AdamWSettings,
) -> Result<Checkpoint> {
    let path = output.join(name(step));
    load(&path, kind, settings).map_err(|damage| Error::Checkpoint { reason: damage.to_string(), path })
}

/// The folder of the newest checkpoint whose files are what was written, if there is any.
pub fn newest_whole(output: &Path) -> Result<Option<PathBuf>> {
    let mut folders = list(output)?.into_iter().rev().map(|(_, path)| path);
    Ok(folders.find(|path| check_hashes(path).is_ok()))
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
    let hashes = check_hashes(path)?;
    let read = |name: &str| read_file(path, name);
    let state = serde_json::from_slice(&read(STATE)?).map_err(|_| Damage::Format(STATE))?;
    let parameters = like.load_like(path, decoder)?;
    let count = parameters.values().len();
    let mut optimiser = AdamW::new(settings, &parameters.tensors());
    read_optimiser(&read(OPTIMISER)?, &mut optimiser)?;
    let reference = match hashes.contains_key(REFERENCE) {
        true => Some(read_reference(&read(REFERENCE)?).ok_or(Damage::Format(REFERENCE))?),
        false => None,
    };
    if reference.as_ref().is_some_and(|values| values.len() != count) {
        return Err(Damage::Size);
    }
    Ok(Checkpoint { parameters, optimiser, state, reference })
}

/// The hashes of a checkpoint's files, which have them.
fn check_hashes(path: &Path) -> Result<BTreeMap<String, String>, Damage> {
    let hashes: BTreeMap<String, String> =
        serde_json::from_slice(&read_file(path, DONE)?).map_err(|_| Damage::Format(DONE))?;
    for (name, hash) in &hashes {
        if hash_file(&path.join(name)).ok().as_ref() != Some(hash) {
            return Err(Damage::Hash(name.clone()));
        }
    }
    Ok(hashes)
}

fn read_file(path: &Path, name: &str) -> Result<Vec<u8>, Damage> {
    fs::read(path.join(name)).map_err(|_| Damage::Hash(name.to_owned()))
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
        let hash = hash_file(&folder.join(&name))?;
        Ok((name, hash))
    };
    folder_names(folder)?.into_iter().map(hash).collect()
}

/// The hash of a file, which is never in memory as a whole.
fn hash_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let hashed = fs::File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    hashed.map_err(|source| collimate_run::Error::read(path, source))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// A vector's name, type and bytes in a safetensors file.
type Vector<'a> = (&'static str, Dtype, Cow<'a, [u8]>);

/// The bytes of floats as files hold them, without a copy where the machine holds them so too.
fn bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return bytemuck::cast_slice(values).into();
    }
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Writes a safetensors file of vectors, one after the other, through to the disk.
fn write_vectors(path: &Path, vectors: &[Vector<'_>]) -> Result<()> {
    let views = vectors.iter().map(|(name, dtype, bytes)| {
        let len = bytes.len() * 8 / dtype.bitsize();
        Ok((*name, TensorView::new(*dtype, vec![len], bytes)?))
    });
    let written = views
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .and_then(|views| safetensors::serialize_to_file(views, None, path));
    let synced = written.map_err(std::io::Error::other).and_then(|()| fs::File::open(path)?.sync_all());
    Ok(synced.map_err(|source| collimate_run::Error::write(path, source))?)
}

fn read_floats(tensors: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let tensor = tensors.tensor(name).ok().filter(|tensor| tensor.dtype() == Dtype::F32)?;
    let (floats, _) = tensor.data().as_chunks();
    Some(floats.iter().map(|&float| f32::from_le_bytes(float)).collect())
}

fn read_reference(file: &[u8]) -> Option<Vec<f32>> {
    read_floats(&SafeTensors::deserialize(file).ok()?, "values")
}

/// Names of m and v in f32, as PyTorch calls them; of their codes and their scales, as bitsandbytes does.
const MOMENTS: [[&str; 3]; 2] = [["exp_avg", "state1", "absmax1"], ["exp_avg_sq", "state2", "absmax2"]];

fn optimiser_vectors(optimiser: &AdamW) -> Vec<Vector<'_>> {
    let moments = MOMENTS.into_iter().zip([&optimiser.mean, &optimiser.square]);
    let vectors = moments.flat_map(|([floats, codes, scales], moment)| {
        [
            (floats, Dtype::F32, bytes(&moment.floats)),
            (codes, Dtype::U8, moment.codes.as_slice().into()),
            (scales, Dtype::F32, bytes(&moment.scales)),
        ]
    });
    let step = ("step", Dtype::U64, optimiser.step.to_le_bytes().to_vec().into());
    vectors.filter(|(_, _, bytes)| !bytes.is_empty()).chain([step]).collect()
}

/// Fills a fresh optimiser; what has no elements stands in no file.
fn read_optimiser(bytes: &[u8], optimiser: &mut AdamW) -> Result<(), Damage> {
    let format = || Damage::Format(OPTIMISER);
    let tensors = SafeTensors::deserialize(bytes).map_err(|_| format())?;
    for ([floats, codes, scales], moment) in
        MOMENTS.into_iter().zip([&mut optimiser.mean, &mut optimiser.square])
    {
        let read = Moment {
            floats: read_floats(&tensors, floats).unwrap_or_default(),
            codes: tensors.tensor(codes).map(|codes| codes.data().to_vec()).unwrap_or_default(),
            scales: read_floats(&tensors, scales).unwrap_or_default(),
        };
        if read.lengths() != moment.lengths() {
            return Err(Damage::Size);
        }
        *moment = read;
    }
    let step = tensors.tensor("step").ok().and_then(|step| step.data().try_into().ok());
    optimiser.step = u64::from_le_bytes(step.ok_or_else(format)?);
    Ok(())
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
