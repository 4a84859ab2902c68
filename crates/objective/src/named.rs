//! Choices that settings and files know by their names.

use crate::error::{Error, Result};

/// One of a fixed set of choices, each with its name.
pub(crate) trait Named: Copy + 'static {
    /// What a choice is, for the error.
    const WHAT: &'static str;

    /// Every choice, in the order of the documentation.
    fn all() -> impl Iterator<Item = Self>;

    /// The name that settings use.
    fn name(self) -> &'static str;
}

/// The choice of this name; the error offers the nearest.
pub(crate) fn parse<T: Named>(name: &str) -> Result<T> {
    if let Some(found) = T::all().find(|choice| choice.name() == name) {
        return Ok(found);
    }
    let likeness = |choice: &T| strsim::jaro_winkler(name, choice.name());
    let nearest = T::all().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let nearest = nearest.map(T::name).unwrap_or_default();
    Err(Error::UnknownName { what: T::WHAT, name: name.to_owned(), nearest })
}

/// Listing, parsing, printing, reading and writing by name.
macro_rules! by_name {
    ($choice:ty) => {
        impl $choice {
            /// Every choice, in the order of TRL's documentation.
            pub fn all() -> impl Iterator<Item = Self> {
                <Self as $crate::named::Named>::all()
            }

            /// The name that settings use, TRL's.
            pub fn name(self) -> &'static str {
                $crate::named::Named::name(self)
            }
        }

        impl std::str::FromStr for $choice {
            type Err = $crate::Error;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                $crate::named::parse(name)
            }
        }

        impl std::fmt::Display for $choice {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.name())
            }
        }

        impl serde::Serialize for $choice {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $choice {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use by_name;
