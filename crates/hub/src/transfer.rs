//! One file over the wire: it goes on where it broke off, and is what it should be or is not kept.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use collimate_run::Error as RunError;
use ureq::http::header;

use crate::checksum::{Checksum, Hasher};
use crate::client::{Client, FileMetadata};
use crate::error::{HubError, Result};
use crate::id::HubId;
use crate::patience::{Failure, Patience};

/// Bytes that are read at once.
const PIECE: usize = 1 << 17;

/// Fetches `file` into `partial`, whose bytes are kept as far as they are there; `advance` is told how many there are.
/// In the end the file is whole, checked, and on the disk.
///
/// Errors: [`HubError::Damaged`] where it is not what the Hub says, and then nothing is kept; no progress for long.
pub(crate) fn fetch(
    client: &Client,
    id: &HubId,
    file: &FileMetadata,
    partial: &Path,
    advance: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut draft = Draft::open(partial, file)?;
    let went_on = draft.at > 0;
    let first = draft.receive(client, id, advance).and_then(|()| draft.check());
    let Err(HubError::Damaged { .. }) = first else { return first };
    // What an earlier start left may have been the damage.
    let ended = if went_on {
        draft.restart()?;
        draft.receive(client, id, advance).and_then(|()| draft.check())
    } else {
        first
    };
    if matches!(ended, Err(HubError::Damaged { .. })) {
        let _ = fs::remove_file(partial);
    }
    ended
}

/// A file in the making.
struct Draft<'a> {
    wanted: &'a FileMetadata,
    path: &'a Path,
    file: File,
    /// Bytes that are there; all of them have gone through the hasher.
    at: u64,
    hasher: Hasher,
}

impl<'a> Draft<'a> {
    fn open(path: &'a Path, wanted: &'a FileMetadata) -> Result<Self> {
        let refused = |source| RunError::write(path, source);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(refused)?;
        let at = file.metadata().map_err(refused)?.len();
        let mut draft = Self { wanted, path, file, at, hasher: wanted.checksum.hasher(wanted.size) };
        if at > wanted.size {
            draft.restart()?;
        } else {
            // Reading leaves the file's position behind its bytes.
            hash(&mut draft.file, &mut draft.hasher).map_err(|source| RunError::read(path, source))?;
        }
        Ok(draft)
    }

    /// Forgets what is there.
    fn restart(&mut self) -> Result<(), RunError> {
        let refused = |source| RunError::write(self.path, source);
        self.file.set_len(0).map_err(refused)?;
        self.file.seek(SeekFrom::Start(0)).map_err(refused)?;
        self.at = 0;
        self.hasher = self.wanted.checksum.hasher(self.wanted.size);
        Ok(())
    }

    /// Receives what is missing, however often the connection breaks.
    fn receive(&mut self, client: &Client, id: &HubId, advance: &mut dyn FnMut(u64)) -> Result<()> {
        let mut patience = Patience::new(&self.wanted.name, client.options, client.context);
        // Bytes that were received anew after a restart are no progress.
        let mut furthest = self.at;
        while self.at < self.wanted.size {
            let ended = self.attempt(client, id, advance);
            if self.at > furthest {
                furthest = self.at;
                patience.renew();
            }
            if let Err(failure) = ended {
                patience.bear(failure)?;
            }
        }
        advance(self.at);
        Ok(())
    }

    fn attempt(&mut self, client: &Client, id: &HubId, advance: &mut dyn FnMut(u64)) -> Result<(), Failure> {
        let response = client.open(self.wanted, id, self.at)?;
        if self.at > 0 && !continues(&response, self.at) {
            self.restart()?;
            // Where the server gives no parts, this answer is the whole.
            if response.status().as_u16() != 200 {
                return Err(Failure::passing("the server gave another part than was asked for"));
            }
        } else if self.at == 0 && response.status().as_u16() != 200 {
            return Err(Failure::passing(format!(
                "status {} instead of the file",
                response.status().as_u16()
            )));
        }
        // One byte more than there should be shows that there are too many.
        let mut body = response.into_body().into_reader().take(self.wanted.size - self.at + 1);
        let mut piece = vec![0; PIECE];
        loop {
            client.context.check()?;
            let read = body
                .read(&mut piece)
                .map_err(|error| Failure::passing(format!("the connection broke ({error})")))?;
            if read == 0 {
                break;
            }
            self.write(&piece[..read])?;
            if self.at > self.wanted.size {
                return Err(self.damaged("more bytes than that".to_owned()).into());
            }
            advance(self.at);
        }
        if self.at < self.wanted.size {
            let reason = format!("the connection ended after {} of {} bytes", self.at, self.wanted.size);
            return Err(Failure::passing(reason));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        self.file.write_all(bytes).map_err(|source| RunError::write(self.path, source))?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.file.sync_all().map_err(|source| RunError::write(self.path, source))?;
        match self.hasher.clone().finish() {
            Some(found) if found != self.wanted.checksum.tag() => {
                Err(self.damaged(format!("checksum {found}")))
            }
            _ => Ok(()),
        }
    }

    fn damaged(&self, got: String) -> HubError {
        let FileMetadata { name, size, checksum, .. } = self.wanted;
        let expected = match checksum {
            Checksum::Unknown(_) => format!("{size} bytes"),
            checksum => format!("{size} bytes with checksum {}", checksum.tag()),
        };
        HubError::Damaged { file: name.clone(), expected, got }
    }
}

/// Whether the answer goes on at byte `at`.
fn continues(response: &ureq::http::Response<ureq::Body>, at: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    response.status().as_u16() == 206 && range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")))
}

/// The checksum of a file on the disk.
pub(crate) fn hash_file(path: &Path, file: &FileMetadata) -> Result<Option<String>> {
    let mut hasher = file.checksum.hasher(file.size);
    let mut opened = File::open(path).map_err(|source| RunError::read(path, source))?;
    hash(&mut opened, &mut hasher).map_err(|source| RunError::read(path, source))?;
    Ok(hasher.finish())
}

fn hash(file: &mut File, hasher: &mut Hasher) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            read => hasher.update(&piece[..read]),
        }
    }
}
