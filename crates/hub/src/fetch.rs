//! A model from the Hub, whole: its files chosen, fetched, checked, and shown under one folder.

use std::path::{Path, PathBuf};

use collimate_run::{Context, Event};
use serde::Serialize;

use crate::cache::{ModelCache, check_revision};
use crate::choice::{check_index, choose, shards};
use crate::client::{Client, FileMetadata};
use crate::destination::Destination;
use crate::error::{HubError, Result};
use crate::id::HubId;
use crate::options::HubOptions;
use crate::transfer;

/// What is to be fetched.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model.
    pub id: HubId,
    /// The branch, tag or commit.
    pub revision: String,
    /// Patterns of the files; none means the description and the weights as safetensors.
    pub include: Vec<String>,
    /// A folder in place of the cache.
    pub local_dir: Option<PathBuf>,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// The model.
    pub id: HubId,
    /// The commit; none where only the cache was asked for a folder of its own name.
    pub commit: Option<String>,
    /// The folder that holds the files, or the file if there is one GGUF file.
    pub path: PathBuf,
    /// How many files there are.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many of these came over the network now.
    pub received: u64,
}

/// Fetches what is missing of a model; what an earlier start, or Python, has fetched is used.
///
/// # Errors
/// [`HubError`]; an interruption, after which the same request goes on where it stopped.
pub fn fetch(request: &Request, options: &HubOptions, context: &Context) -> Result<Fetched> {
    check_revision(&request.revision)?;
    let cache = ModelCache::new(&options.cache, &request.id);
    if options.offline {
        return find(request, &cache, options);
    }
    let client = Client::new(options, context)?;
    let listing = client.listing(&request.id, &request.revision)?;
    let choice = choose(&request.id, &listing.files, &request.include)?;
    let commit = listing.commit.clone();
    let destination = match &request.local_dir {
        Some(folder) => Destination::Folder { folder: folder.clone(), commit },
        None => Destination::Cache { cache, commit, revision: request.revision.clone() },
    };
    let mut work =
        Work { client, id: &request.id, destination, commit: &listing.commit, bytes: 0, received: 0 };
    work.get("what describes the model", &choice.files)?;
    let mut files = choice.files;
    if let Some(index) = choice.index {
        let shards = shards(&request.id, &work.destination.path().join(index), &listing.files)?;
        work.get("the weights", &shards)?;
        files.extend(shards);
    }
    work.destination.complete()?;
    let path = shown(work.destination.path(), &files);
    let (bytes, received) = (work.bytes, work.received);
    Ok(Fetched {
        id: request.id.clone(),
        commit: Some(listing.commit),
        path,
        files: files.len(),
        bytes,
        received,
    })
}

/// The folder, or in it the file if that is all, and a model by itself.
fn shown(folder: PathBuf, files: &[String]) -> PathBuf {
    match files {
        [file] if file.ends_with(".gguf") => folder.join(file),
        _ => folder,
    }
}

/// The model as the cache has it, whole.
fn find(request: &Request, cache: &ModelCache, options: &HubOptions) -> Result<Fetched> {
    let (id, revision) = (&request.id, &request.revision);
    let absent =
        || HubError::Offline { id: id.to_string(), revision: revision.clone(), cache: options.cache.clone() };
    let folder = cache.snapshot(revision).filter(|_| request.local_dir.is_none()).ok_or_else(absent)?;
    let there = files_in(&folder)?;
    let chosen = choose(id, &there, &request.include).and_then(|mut choice| {
        if let Some(index) = choice.index {
            choice.files.extend(shards(id, &folder.join(index), &there)?);
        }
        Ok(choice.files)
    });
    let files = chosen.map_err(|error| match error {
        // Of the Hub these would be true; here they say that not all was fetched.
        HubError::NoWeights { .. } | HubError::NothingIncluded { .. } | HubError::Strange { .. } => absent(),
        error => error,
    })?;
    let size = |file: &String| std::fs::metadata(folder.join(file)).map_or(0, |metadata| metadata.len());
    Ok(Fetched {
        id: id.clone(),
        commit: folder.file_name().map(|name| name.to_string_lossy().into_owned()),
        bytes: files.iter().map(size).sum(),
        files: files.len(),
        path: shown(folder, &files),
        received: 0,
    })
}

/// The files of a folder and of those in it, as the Hub would list them.
fn files_in(folder: &Path) -> Result<Vec<String>> {
    let (mut files, mut folders) = (Vec::new(), vec![(folder.to_owned(), String::new())]);
    while let Some((path, before)) = folders.pop() {
        let unreadable = |source| collimate_run::Error::read(&path, source);
        for entry in std::fs::read_dir(&path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = format!("{before}{}", entry.file_name().to_string_lossy());
            // Files are links, folders are none.
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else if entry.path().is_file() {
                files.push(name);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The files of one model on their way.
struct Work<'a> {
    client: Client<'a>,
    id: &'a HubId,
    destination: Destination,
    commit: &'a str,
    bytes: u64,
    received: u64,
}

impl Work<'_> {
    /// Brings these files to their destination, as one task.
    fn get(&mut self, what: &str, names: &[String]) -> Result<()> {
        let metadata = |name: &String| {
            self.client.context.check()?;
            self.client.metadata(self.id, self.commit, name)
        };
        let files = names.iter().map(metadata).collect::<Result<Vec<FileMetadata>>>()?;
        files.iter().try_for_each(|file| check_index(self.id, file))?;
        let before = self.bytes;
        let after = files.iter().try_fold(before, |bytes, file| bytes.checked_add(file.size));
        let after = after.ok_or_else(|| HubError::Strange {
            host: self.id.to_string(),
            reason: "the sizes of its files have no sum".to_owned(),
        })?;
        let task = format!("fetching {what}");
        self.client.context.report(Event::Started {
            task: &task,
            total: Some(after - before),
            unit: "bytes",
        });
        let fetched = files.iter().try_for_each(|file| self.get_file(file, before));
        self.client.context.report(Event::Finished);
        fetched
    }

    /// `before` are the bytes of earlier tasks.
    fn get_file(&mut self, file: &FileMetadata, before: u64) -> Result<()> {
        let Self { client, id, destination, .. } = self;
        let lock = destination.lock(file, client.context)?;
        let of_others = self.bytes - before;
        if !destination.has(file)? {
            let partial = destination.partial(file)?;
            let earlier = std::fs::metadata(&partial).map_or(0, |metadata| metadata.len());
            let mut advance = |done| {
                client.context.report(Event::Advanced { done: of_others + done, fields: &[] });
            };
            transfer::fetch(client, id, file, &partial, &mut advance)?;
            destination.keep(&partial, file)?;
            self.received += file.size.saturating_sub(earlier);
        }
        destination.show(file)?;
        drop(lock);
        self.bytes += file.size;
        client.context.report(Event::Advanced { done: self.bytes - before, fields: &[] });
        Ok(())
    }
}
