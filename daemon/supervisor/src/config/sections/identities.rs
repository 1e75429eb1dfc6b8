//! `[identity.NAME]` and identities from directories: their files, and their names, each of which belongs to
//! one identity.

use crate::config::checker::Checker;
use crate::config::directory::{Bounds, Discovered};
use crate::config::few::few;
use crate::config::finding::Severity;
use crate::config::finding::{Finding, Location};
use crate::config::model::{FileRef, FileSource, Identity};
use crate::config::raw::{self, Text};
use std::collections::BTreeMap;

/// The maximum length of an identity's name or alias, in bytes.
const MAX_NAME: usize = 255;
/// The prefix of the name of a systemd credential.
const CREDENTIAL: &str = "credential:";

/// Checks the declared identities, adds the discovered ones, and checks that no two identities share a name.
pub(crate) fn check(
    checker: &mut Checker<'_>,
    file: &raw::File,
    discovered: Vec<Discovered>,
) -> BTreeMap<String, Identity> {
    let mut names = Names::default();
    let mut identities = BTreeMap::new();
    for (name, raw) in &file.identity {
        let Some(identity) = identity(checker, name, raw) else { continue };
        names.add(checker, name.get_ref(), &identity);
        identities.insert(name.get_ref().clone(), identity);
    }
    let told = checker.findings.len();
    let left_out = add_discovered(checker, discovered, Bounds::default(), &mut names, &mut identities);
    let of_directories = checker.findings.split_off(told);
    checker.findings.extend(few(of_directories));
    checker.findings.extend(left_out);
    identities
}

/// Adds the identities from directories, up to the limits, and reports the number of those that were ignored.
fn add_discovered(
    checker: &mut Checker<'_>,
    discovered: Vec<Discovered>,
    bounds: Bounds,
    names: &mut Names,
    identities: &mut BTreeMap<String, Identity>,
) -> Option<Finding> {
    let mut left = bounds;
    let mut left_out: Option<(String, Identity, usize)> = None;
    for found in discovered {
        let name = found.name.clone();
        let identity = from_directory(found);
        if let Some(finding) = unfit(&name, &identity.location) {
            checker.findings.push(Finding { severity: Severity::Warning, ..finding });
            continue;
        }
        let bytes = name.len() + identity.other_names().iter().map(String::len).sum::<usize>();
        if left.number == 0 || left.bytes < bytes {
            // A later, smaller identity does not take the remaining space. All later names are ignored, in
            // their order.
            left.number = 0;
            left_out.get_or_insert((name, identity, 0)).2 += 1;
        } else if names.add(checker, &name, &identity) {
            (left.number, left.bytes) = (left.number - 1, left.bytes - bytes);
            identities.insert(name, identity);
        }
    }
    left_out.map(|(name, identity, number)| {
        let Bounds { number: most, bytes } = bounds;
        let cause = format!(
            "directories can provide at most {most} identities with {bytes} bytes of names and paths: {number} are \
             ignored, starting with `{name}`"
        );
        let hint = "declare the identities that must be served as [identity.NAME], or remove files";
        Finding::warning(identity.location, cause).hint(hint)
    })
}

fn identity(checker: &mut Checker<'_>, name: &Text, raw: &raw::Identity) -> Option<Identity> {
    fit_name(checker, name);
    for alias in &raw.aliases {
        fit_name(checker, alias);
    }
    let Some(key) = &raw.key else {
        let cause = format!("identity `{}` has no `key`", name.get_ref());
        checker.error(name.span(), cause, "set it to the private key file");
        return None;
    };
    let mut optional = |text: &Option<Text>| text.as_ref().map(|text| file_ref(checker, text));
    let certificate = optional(&raw.certificate);
    let password = optional(&raw.password_file);
    let staple = optional(&raw.staple);
    let aliases = raw.aliases.iter().map(|alias| alias.get_ref().clone()).collect();
    let key = file_ref(checker, key);
    let location = checker.source.location(name.span());
    let shared_key = raw.shared_key;
    Some(Identity { key, certificate, password, staple, aliases, shared_key, location, discovered: false })
}

fn from_directory(found: Discovered) -> Identity {
    let file = |path: std::path::PathBuf| FileRef {
        location: Location::file(&path),
        source: FileSource::Path(path),
    };
    Identity {
        location: Location::file(&found.key),
        key: file(found.key),
        certificate: found.certificate.map(file),
        password: None,
        staple: None,
        aliases: Vec::new(),
        shared_key: false,
        discovered: true,
    }
}

pub(crate) fn file_ref(checker: &mut Checker<'_>, text: &Text) -> FileRef {
    let location = checker.source.location(text.span());
    let Some(name) = text.get_ref().strip_prefix(CREDENTIAL) else {
        return FileRef { source: FileSource::Path(checker.path(text)), location };
    };
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        let hint = "write \"credential:NAME\", where NAME is the name in LoadCredential=";
        checker.error(text.span(), format!("`{name}` is not a valid credential name"), hint);
    }
    FileRef { source: FileSource::Credential(name.to_owned()), location }
}

fn fit_name(checker: &mut Checker<'_>, text: &Text) {
    if let Some(finding) = unfit(text.get_ref(), &checker.source.location(text.span())) {
        checker.findings.push(finding);
    }
}

/// Returns whether a name is valid for an identity.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name != "*" && !name.contains(char::is_control)
}

/// Returns an error if a name is invalid.
fn unfit(name: &str, location: &Location) -> Option<Finding> {
    (!is_name(name)).then(|| {
        let hint = format!("use 1 to {MAX_NAME} bytes without control characters, and not `*`");
        Finding::error(location.clone(), format!("`{}` is not a valid identity name", name.escape_debug()))
            .hint(hint)
    })
}

/// Maps each name to its identity.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    /// Returns whether all names of `identity` were free. Reports an error for each that was not.
    fn add(&mut self, checker: &mut Checker<'_>, name: &str, identity: &Identity) -> bool {
        let mut free = true;
        let mut own: Vec<String> = identity.other_names();
        own.insert(0, name.to_owned());
        own.sort();
        own.dedup();
        // A conflicting file in a directory is ignored; a conflicting declared identity is an error.
        let (severity, hint) = match identity.discovered {
            true => (Severity::Warning, "the file is ignored: remove it, or rename it"),
            false => (
                Severity::Error,
                "a name, alias or file can belong to only one identity: remove it from the other",
            ),
        };
        for each in own {
            if let Some(other) = self.0.get(&each) {
                let cause = if other == name {
                    format!("identity `{name}` already exists")
                } else {
                    format!(
                        "`{each}` is already a name of identity `{other}`, so it cannot be a name of `{name}`"
                    )
                };
                let finding = Finding::error(identity.location.clone(), cause).hint(hint);
                checker.findings.push(Finding { severity, ..finding });
                free = false;
            } else {
                self.0.insert(each, name.to_owned());
            }
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Source;

    fn discovered(name: &str) -> Discovered {
        Discovered { name: name.to_owned(), key: format!("/d/{name}.pem").into(), certificate: None }
    }

    /// Returns the names that directories provide within these limits, and the message about the others.
    fn within(number: usize, bytes: usize) -> (Vec<String>, Option<String>) {
        let source = Source::from_text(std::path::Path::new("/x.toml"), "");
        let mut checker = Checker { source: &source, findings: Vec::new() };
        let (mut names, mut identities) = (Names::default(), BTreeMap::new());
        // The declared identity does not count towards the limits.
        let declared = Identity { discovered: false, ..from_directory(discovered("z")) };
        names.add(&mut checker, "z", &declared);
        identities.insert("z".to_owned(), declared);
        let found = ["a", "b", "c"].map(discovered).into();
        let bounds = Bounds { number, bytes };
        let finding = add_discovered(&mut checker, found, bounds, &mut names, &mut identities);
        assert!(checker.findings.is_empty());
        (identities.into_keys().collect(), finding.map(|finding| finding.cause))
    }

    #[test]
    fn directories_bring_so_many_identities_and_no_declared_one_is_among_those_left_out() {
        let (names, left_out) = within(2, 1_000);
        assert_eq!(names, ["a", "b", "z"]);
        let said = left_out.expect("said");
        assert!(said.ends_with("1 are ignored, starting with `c`"), "{said}");
        // Each has a name of one byte and a path of eight.
        let (names, left_out) = within(1_000, 26);
        assert_eq!((names.len(), left_out.is_some()), (3, true));
        assert_eq!(within(0, 0).0, ["z"]);
        // Positive control: identities within the limits are present.
        let (names, left_out) = within(3, 27);
        assert_eq!((names.len(), left_out), (4, None));
    }
}
