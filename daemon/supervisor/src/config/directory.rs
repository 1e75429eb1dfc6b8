//! Directories of identities: which files in them belong together. Looks at names alone; whether there is a key in a
//! file is for the keeper to say.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Entries of a directory that are looked at: some for each identity, as certificates and what else a client of a CA
/// leaves there.
pub(crate) const ENTRIES_MAX: usize = 50_000;

/// How many identities directories may bring, all together, and how many bytes their names and paths may take. With these
/// bounds the settings of a front can hold all of them, whatever the owner of a directory puts there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Identities.
    pub(crate) number: usize,
    /// Their names and all that they answer to, in bytes.
    pub(crate) bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { number: DISCOVERED_MAX, bytes: DISCOVERED_BYTES }
    }
}

/// Identities that directories bring, all together.
pub const DISCOVERED_MAX: usize = 10_000;
/// Names and paths of these, in bytes: enough for the longest names in a directory whose path is not longer.
pub const DISCOVERED_BYTES: usize = 16 << 20;

/// Files that may be an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The name that they give it.
    pub name: String,
    /// The file of the key, perhaps with the chain.
    pub key: PathBuf,
    /// The file of the chain.
    pub certificate: Option<PathBuf>,
}

/// How files lie; a better one hides the others of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layout {
    /// `NAME.pem`
    Pem,
    /// `NAME.key` and `NAME.crt`
    Pair,
    /// `NAME/privkey.pem` and `NAME/fullchain.pem`
    Certbot,
}

/// What may be an identity in `directory`, by name; and whether it has more than `most` entries, the others of which were
/// not looked at.
///
/// # Errors
/// Where the directory cannot be read.
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

/// A dangling link counts too, so that the operator sees the error.
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
        // Positive control: as many as the bound are all looked at.
        assert_eq!(listed(3), (3, false));
    }
}
