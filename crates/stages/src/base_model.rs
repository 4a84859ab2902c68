//! The model on which an adapter stands, by what the adapter says of it.

use std::path::{Path, PathBuf};

use collimate_model::LoraConfig;

use crate::Error;
use crate::train::Named;

/// Finds the folder of a model that is named by its id on the Hub; none of one that was not fetched.
pub type FindModel = fn(&Path) -> Option<PathBuf>;

/// The model in a folder or file; of an adapter's folder the model that it names, if that is there, or else `model`, and
/// the adapter.
///
/// # Errors
/// [`Error::NoBaseModel`], [`Error::BaseModelMissing`]; an adapter that cannot be read.
pub(crate) fn base_and_adapter(
    path: &Path,
    model: Option<&Path>,
    find: FindModel,
) -> Result<(PathBuf, Option<PathBuf>), Error> {
    if !Named::is_adapter(path) {
        return Ok((path.to_owned(), None));
    }
    let (named, adapter) = (named(path)?, path.to_owned());
    let found = named.as_deref().and_then(|named| there(named, find)).or_else(|| model.map(Path::to_owned));
    match (found, named) {
        (Some(base), _) => Ok((base, Some(adapter))),
        (None, Some(named)) => Err(Error::BaseModelMissing { adapter, named }),
        (None, None) => Err(Error::NoBaseModel { adapter }),
    }
}

/// The model that the path's adapter names, if that is there; none of what is no adapter.
///
/// # Errors
/// An adapter that cannot be read.
pub(crate) fn named_base(path: &Path, find: FindModel) -> Result<Option<PathBuf>, Error> {
    let named = if Named::is_adapter(path) { named(path)? } else { None };
    Ok(named.and_then(|named| there(&named, find)))
}

fn named(adapter: &Path) -> Result<Option<PathBuf>, Error> {
    let config = LoraConfig::read(&adapter.join(Named::ADAPTER_CONFIG))?;
    Ok(config.base_model_name_or_path.map(PathBuf::from))
}

fn there(named: &Path, find: FindModel) -> Option<PathBuf> {
    if named.exists() { Some(named.to_owned()) } else { find(named) }
}
