//! A model from the Hub, whole: its files chosen, fetched, checked, and shown under one folder.

use std::path::PathBuf;

use collimate_run::{Context, Event};
use serde::Serialize;

use crate::cache::{ModelCache, check_revision};
use crate::choice::{choose, shards};
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
    let path = work.destination.path();
    let path = match files.as_slice() {
        [file] if file.ends_with(".gguf") => path.join(file),
        _ => path,
    };
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

/// The model as the cache has it.
fn find(request: &Request, cache: &ModelCache, options: &HubOptions) -> Result<Fetched> {
    let Some(path) = cache.snapshot(&request.revision).filter(|_| request.local_dir.is_none()) else {
        let (id, revision) = (request.id.to_string(), request.revision.clone());
        return Err(HubError::Offline { id, revision, cache: options.cache.clone() });
    };
    let entries = std::fs::read_dir(&path).map_err(|source| collimate_run::Error::read(&path, source))?;
    let sizes: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .collect();
    let commit = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let (files, bytes) = (sizes.len(), sizes.iter().sum());
    Ok(Fetched { id: request.id.clone(), commit, path, files, bytes, received: 0 })
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
        let total = files.iter().map(|file| file.size).sum();
        let task = format!("fetching {what}");
        self.client.context.report(Event::Started { task: &task, total: Some(total), unit: "bytes" });
        let before = self.bytes;
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
