//! Names of what stands in the Hub's cache, which people know by a model's id and not by the folder of a commit.
//!
//! The layout is that of Python's `huggingface_hub`: `models--org--name/` with `snapshots/COMMIT/` and `refs/BRANCH`, a
//! file that holds the commit.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// How the folders of models begin.
const MODEL: &str = "models";
/// What stands between the parts of a folder's name.
const SEPARATOR: &str = "--";
/// The folder of commits in a model's.
pub const SNAPSHOTS: &str = "snapshots";
/// The folder of branches and tags in a model's.
pub const REFS: &str = "refs";
/// The branch that is meant where none is named.
pub const MAIN: &str = "main";

/// The folder of the model `org/name` in the cache.
pub fn model_folder(id: &str) -> String {
    format!("{MODEL}{SEPARATOR}{}", id.replace('/', SEPARATOR))
}

/// What a path is called where others are to find what it holds: of a model in the Hub's cache, or a file of one, the
/// id (`org/name`, `org/name/q4.gguf`), if that still means this commit; else the path as it is.
pub fn public_name(path: &Path) -> String {
    hub_name(path).unwrap_or_else(|| path.display().to_string())
}

/// The id by which a path in the Hub's cache is found, such as `org/name` of the folder of a model's commit; none of
/// other paths, and of a commit that the branch main is no longer at.
pub fn hub_name(path: &Path) -> Option<String> {
    path.ancestors().find_map(|snapshot| {
        let snapshots =
            snapshot.parent().filter(|folder| folder.file_name() == Some(OsStr::new(SNAPSHOTS)))?;
        let model = snapshots.parent()?;
        let mut parts = model.file_name()?.to_str()?.split(SEPARATOR);
        let (Some(MODEL), Some(owner), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let commit = fs::read_to_string(model.join(REFS).join(MAIN)).ok()?;
        let inner = path.strip_prefix(snapshot).ok()?.to_str()?;
        let id = [owner, name, inner].join("/");
        (snapshot.file_name() == Some(OsStr::new(commit.trim()))).then(|| id.trim_end_matches('/').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic;

    #[test]
    fn a_model_in_the_cache_is_called_by_its_id_as_long_as_that_means_it() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join(model_folder("org/name"));
        let [old, new] = ["old", "new"].map(|commit| model.join(SNAPSHOTS).join(commit));
        for folder in [&old, &new, &model.join(REFS)] {
            fs::create_dir_all(folder).unwrap();
        }
        assert_eq!(hub_name(&new), None);
        atomic::write(model.join(REFS).join(MAIN), b"new").unwrap();
        assert_eq!(hub_name(&new).as_deref(), Some("org/name"));
        assert_eq!(hub_name(&new.join("sub/q4.gguf")).as_deref(), Some("org/name/sub/q4.gguf"));
        assert_eq!(public_name(&old), old.display().to_string());
        let others = ["models/base", "snapshots/new", "", "/", "datasets--org--rows/snapshots/new"];
        for other in others.map(Path::new).into_iter().chain([model.as_path(), &model.join(SNAPSHOTS)]) {
            assert_eq!(hub_name(other), None, "{other:?}");
        }
    }
}
