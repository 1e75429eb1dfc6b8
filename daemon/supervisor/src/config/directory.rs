//! Directories of identities: finds out which files belong together. This module uses the names only; the
//! keeper finds out whether a file contains a key.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The maximum number of entries of a directory that are read. Each identity has several entries:
/// certificates, and other files that an ACME client stores there.
pub(crate) const ENTRIES_MAX: usize = 50_000;

/// Limits on the identities from all directories together: their number, and the number of bytes of their
/// names and paths. Within these limits, the settings of a front can hold all of them, independent of the
/// directories' content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The number of identities.
    pub(crate) number: usize,
    /// The size of their names, paths and aliases, in bytes.
    pub(crate) bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { number: DISCOVERED_MAX, bytes: DISCOVERED_BYTES }
    }
}

/// The maximum number of identities from all directories together.
pub const DISCOVERED_MAX: usize = 10_000;
/// The maximum size of their names and paths, in bytes. It suffices for the longest names in a directory
/// whose path is not longer than they are.
pub const DISCOVERED_BYTES: usize = 16 << 20;

/// Files that may be an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The identity's name, from the name of the file or directory.
    pub name: String,
    /// The key file. It may also contain the chain.
    pub key: PathBuf,
    /// The file of the chain.
    pub certificate: Option<PathBuf>,
}

/// The layout of an identity's files. If two layouts exist for one name, the better one is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layout {
    /// `NAME.pem`
    Pem,
    /// `NAME.key` and `NAME.crt`
    Pair,
    /// `NAME/privkey.pem` and `NAME/fullchain.pem`
    Certbot,
}

/// Returns the possible identities in `directory` by name, and whether it has more than `most` entries. The
/// entries beyond `most` are not read.
///
/// # Errors
/// Returns an error if the directory cannot be read.
pub(crate) fn list(directory: &Path, most: usize) -> io::Result<(Vec<Discovered>, bool)> {
    let mut found: BTreeMap<String, (Layout, Discovered)> = BTreeMap::new();
    let mut entries = std::fs::read_dir(directory)?;
    for entry in entries.by_ref().take(most) {
        let Some((layout, discovered)) = recognise(&entry?.path()) else { continue };
        let known = found.get(&discovered.name).map(|(layout, _)| *layout);
        if known.is_none_or(|known| known < layout) {
            found.insert(discovered.name.clone(), (layout, discovered));
        }
    }
    Ok((found.into_values().map(|(_, discovered)| discovered).collect(), entries.next().is_some()))
}

fn recognise(path: &Path) -> Option<(Layout, Discovered)> {
    if path.is_dir() {
        let name = path.file_name()?.to_str()?.to_owned();
        let (key, certificate) = (path.join("privkey.pem"), path.join("fullchain.pem"));
        let both = exists(&key) && exists(&certificate);
        return both.then_some((Layout::Certbot, Discovered { name, key, certificate: Some(certificate) }));
    }
    let name = path.file_stem()?.to_str()?.to_owned();
    let key = path.to_owned();
    match path.extension()?.to_str()? {
        "pem" => Some((Layout::Pem, Discovered { name, key, certificate: None })),
        "key" => {
            let certificate = path.with_extension("crt");
            let both = exists(&certificate);
            both.then_some((Layout::Pair, Discovered { name, key, certificate: Some(certificate) }))
        }
        _ => None,
    }
}

/// Returns whether the file exists. A dangling link counts as a file, so that the operator gets an error.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_layouts_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("site.example")).unwrap();
        std::fs::create_dir(at("empty.example")).unwrap();
        for name in [
            "a.pem",
            "b.key",
            "b.crt",
            "c.key",
            "d.crt",
            "README",
            "site.example/privkey.pem",
            "site.example/fullchain.pem",
            "site.example.pem",
        ] {
            std::fs::write(at(name), "").unwrap();
        }
        let (found, has_more) = list(directory.path(), ENTRIES_MAX).unwrap();
        assert!(!has_more);
        let names: Vec<&str> = found.iter().map(|each| each.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "site.example"]);
        assert_eq!(found[0].certificate, None);
        assert_eq!(found[1].certificate, Some(at("b.crt")));
        assert_eq!(found[2].key, at("site.example/privkey.pem"));
    }

    #[test]
    fn entries_beyond_the_bound_are_not_looked_at_and_that_is_said() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.pem", "b.pem", "c.pem"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let listed = |most| list(directory.path(), most).map(|(found, more)| (found.len(), more)).unwrap();
        assert_eq!(listed(2), (2, true));
        // Positive control: with a number of entries equal to the limit, all are read.
        assert_eq!(listed(3), (3, false));
    }
}
