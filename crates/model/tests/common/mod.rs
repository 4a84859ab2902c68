//! What the tests of this crate share: fixtures, real models, and errors as text.

use std::path::{Path, PathBuf};

use miette::Diagnostic;

/// A file or folder of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The folder of real models, where there is one; says so where a test is skipped.
pub fn real_models() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "only the caller knows where large models lie")]
    let folder = std::env::var_os("COLLIMATE_TEST_MODELS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: COLLIMATE_TEST_MODELS does not name a folder of real models");
    }
    folder
}

/// An error as a person sees it, the folder's name left out.
pub fn text(error: &collimate_model::Error, folder: &Path) -> String {
    let help = error.help().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    format!("{error}{help}")
        .replace(&format!("{}/", folder.display()), "")
        .replace(&folder.display().to_string(), "FOLDER")
}

/// Writes a file into a test's own folder.
pub fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// A copy of a fixture folder that a test may spoil.
pub fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}
