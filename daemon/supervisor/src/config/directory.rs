//! Directories of identities: which files in them belong together. Looks at names alone; whether there is a key in a
//! file is for the keeper to say.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// A directory with more entries than this is taken for a mistake.
const MOST_ENTRIES: usize = 100_000;

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

/// What may be an identity in `directory`, by name.
///
/// # Errors
/// Where the directory cannot be read.
pub(super) fn list(directory: &Path) -> io::Result<Vec<Discovered>> {
    let mut found: BTreeMap<String, (Layout, Discovered)> = BTreeMap::new();
    for entry in std::fs::read_dir(directory)?.take(MOST_ENTRIES) {
        let Some((layout, discovered)) = recognise(&entry?.path()) else { continue };
        let known = found.get(&discovered.name).map(|(layout, _)| *layout);
        if known.is_none_or(|known| known < layout) {
            found.insert(discovered.name.clone(), (layout, discovered));
        }
    }
    Ok(found.into_values().map(|(_, discovered)| discovered).collect())
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

/// A link that leads nowhere is there too: the fault is worth a message.
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
        let found = list(directory.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|each| each.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "site.example"]);
        assert_eq!(found[0].certificate, None);
        assert_eq!(found[1].certificate, Some(at("b.crt")));
        assert_eq!(found[2].key, at("site.example/privkey.pem"));
    }
}
