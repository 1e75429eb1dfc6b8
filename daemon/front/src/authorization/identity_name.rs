//! Names of identities: the name that a program asks for, and the declared name that it stands for. The index of the
//! configuration in force resolves a name once. After that the name is an [`IdentityName`].

use luassl_settings::Settings;
use std::{collections::HashMap, sync::Arc};

/// The declared name of an identity. Only an index creates one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct IdentityName(Arc<str>);

impl IdentityName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The declared identities, by all names that they answer to: their names, their aliases, and the absolute paths of
/// their files.
#[derive(Debug, Default)]
pub(crate) struct IdentityIndex(HashMap<Box<str>, IdentityName>);

impl IdentityIndex {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut index = HashMap::new();
        for (name, identity) in &settings.identities {
            let declared = IdentityName(name.as_str().into());
            for alias in &identity.aliases {
                index.insert(alias.as_str().into(), declared.clone());
            }
        }
        // A name takes precedence over an equal alias.
        for name in settings.identities.keys() {
            index.insert(name.as_str().into(), IdentityName(name.as_str().into()));
        }
        Self(index)
    }

    /// Returns the identity that answers to `asked` itself, or else to the path of `asked` relative to `directory`.
    fn find(&self, directory: Option<&str>, asked: &str) -> Option<&IdentityName> {
        self.0.get(asked).or_else(|| {
            let is_path = directory.is_some() || asked.starts_with('/');
            is_path.then(|| self.0.get(&*joined(directory.unwrap_or_default(), asked)))?
        })
    }

    /// Resolves the name that a program asked for.
    pub(crate) fn resolve(&self, directory: Option<&str>, asked: &str) -> AskedIdentity {
        AskedIdentity { asked: asked.to_owned(), name: self.find(directory, asked).cloned() }
    }
}

/// An identity as a program named it, with the declared identity that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AskedIdentity {
    pub(crate) asked: String,
    /// The declared name; `None` if no identity answers to the program's name.
    pub(crate) name: Option<IdentityName>,
}

impl AskedIdentity {
    /// Returns an identity that need not be resolved, for the log.
    pub(crate) fn unresolved(asked: String) -> Self {
        Self { asked, name: None }
    }
}

/// Returns the text of the path `name` relative to `directory`. `.`, `..` and double slashes are resolved in the text
/// alone.
pub(crate) fn joined(directory: &str, name: &str) -> String {
    let directory = if name.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use luassl_settings::IdentitySettings;

    fn index() -> IdentityIndex {
        let of = |aliases: &[&str]| IdentitySettings {
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            fault: None,
        };
        IdentityIndex::new(&Settings {
            identities: [
                ("www".to_owned(), of(&["/etc/keys/www.pem", "mail"])),
                ("mail".to_owned(), of(&[])),
            ]
            .into(),
            ..Settings::default()
        })
    }

    fn found(directory: Option<&str>, asked: &str) -> Option<String> {
        index().resolve(directory, asked).name.map(|name| name.as_str().to_owned())
    }

    #[test]
    fn an_identity_answers_to_its_name_and_to_its_aliases() {
        assert_eq!(found(None, "www").as_deref(), Some("www"));
        assert_eq!(found(None, "/etc/keys/www.pem").as_deref(), Some("www"));
        assert_eq!(found(None, "unknown"), None);
    }

    #[test]
    fn a_name_goes_before_an_alias_that_reads_the_same() {
        assert_eq!(found(None, "mail").as_deref(), Some("mail"));
    }

    #[test]
    fn a_path_is_seen_from_the_programs_directory() {
        assert_eq!(found(Some("/etc"), "keys/./www.pem").as_deref(), Some("www"));
        assert_eq!(found(Some("/etc/app"), "../keys/www.pem").as_deref(), Some("www"));
        assert_eq!(found(None, "/etc//keys/../keys/www.pem").as_deref(), Some("www"));
        assert_eq!(found(None, "keys/www.pem"), None, "without a directory it is no path");
        assert_eq!(found(Some("/srv"), "keys/www.pem"), None);
        assert_eq!(found(Some("/srv"), "www").as_deref(), Some("www"), "a name is a name in every directory");
    }

    #[test]
    fn what_was_asked_for_stays_in_the_programs_words() {
        assert_eq!(index().resolve(Some("/etc"), "keys/www.pem").asked, "keys/www.pem");
    }

    #[test]
    fn a_relative_path_is_joined_as_text() {
        for (name, full) in [
            ("keys/a.pem", "/srv/app/keys/a.pem"),
            ("./a.pem", "/srv/app/a.pem"),
            ("../certs//a.pem", "/srv/certs/a.pem"),
            ("../../../../a.pem", "/a.pem"),
            ("/etc/a.pem", "/etc/a.pem"),
            ("/etc//tls/./../a.pem", "/etc/a.pem"),
        ] {
            assert_eq!(joined("/srv/app", name), full);
        }
    }
}
