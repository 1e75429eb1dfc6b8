//! `[limits]` as it is in the file. Each key is the name of one of [`Limits::ALL`]; its value has that
//! limit's type.

use luassl_settings::{Limit, LimitKind, Limits};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;

/// The given values, by the names of their limits.
#[derive(Debug, Default)]
pub(crate) struct RawLimits(BTreeMap<&'static str, RawLimit>);

/// A value as given in the file.
#[derive(Debug)]
pub(crate) enum RawLimit {
    /// A deadline, in seconds.
    Deadline(Spanned<f64>),
    /// A count.
    Count(Spanned<i64>),
}

impl RawLimits {
    /// Returns the value that was given for `limit`.
    pub(crate) fn get(&self, limit: &Limit) -> Option<&RawLimit> {
        self.0.get(limit.name)
    }
}

impl<'de> Deserialize<'de> for RawLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Limits", Limits::NAMES, Entries)
    }
}

/// Reads the entries of the table.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = RawLimits;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("struct Limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawLimits, A::Error> {
        let mut given = RawLimits::default();
        while let Some(Key(limit)) = map.next_key()? {
            let value = match limit.kind {
                LimitKind::Deadline => RawLimit::Deadline(map.next_value()?),
                LimitKind::Count => RawLimit::Count(map.next_value()?),
            };
            given.0.insert(limit.name, value);
        }
        Ok(given)
    }
}

/// A key of the table.
struct Key(&'static Limit);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Limit::named(&name).map(Self).ok_or_else(|| D::Error::unknown_field(&name, Limits::NAMES))
    }
}
