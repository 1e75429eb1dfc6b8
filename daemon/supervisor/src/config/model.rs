//! A checked configuration.

use crate::config::finding::{Finding, Location};
use luassl_keeper_ipc::admin::EPOCH;
use luassl_sandbox::user::User;
use luassl_settings::{Grant, Limits, Log};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

/// The configuration that is read where none is named, if it exists.
pub const DEFAULT_FILE: &str = "/etc/luassl/luassl.toml";
/// The front that serves whatever no other front claims, and the only one where none is declared.
pub const DEFAULT_FRONT: &str = "default";
/// Mode of control sockets: anybody may connect, and the grants decide.
pub(super) const SOCKET_MODE: u32 = 0o666;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The control socket; the location is decided at the start where no path is given.
    pub control: SocketFile,
    /// Named control sockets.
    pub sockets: BTreeMap<String, SocketFile>,
    /// The user that the keeper runs as where root starts it; none where the supervisor chooses one.
    pub keeper_user: Option<User>,
    /// Fronts by name; at least one.
    pub fronts: BTreeMap<String, Front>,
    /// Identities by name, discovered ones included.
    pub identities: BTreeMap<String, Identity>,
    /// Trusts by name, without `system`.
    pub trusts: BTreeMap<String, Trust>,
    /// Configured listeners by name.
    pub listeners: BTreeMap<String, Listener>,
    /// Who may do what.
    pub grants: Vec<Grant>,
    /// Deadlines and bounds.
    pub limits: Limits,
    /// How sessions are resumed.
    pub tickets: Tickets,
    /// What is logged, and how.
    pub log: Log,
}

/// A control socket in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    /// Where; none where a socket unit or the default decides.
    pub path: Option<PathBuf>,
    /// Permissions of the file.
    pub mode: u32,
    /// Group of the file; none for the supervisor's own.
    pub group: Option<u32>,
}

impl Default for SocketFile {
    fn default() -> Self {
        Self { path: None, mode: SOCKET_MODE, group: None }
    }
}

/// Names of identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every one, also those that a reload adds.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Selection {
    /// Whether `name` is meant.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// In which roles identities may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// To accept connections.
    pub server: bool,
    /// To show a client certificate.
    pub client: bool,
}

/// One front: what it serves and which identities the keeper gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// The user that it runs as where root starts it; none where the supervisor chooses one.
    pub user: Option<User>,
    /// The keeper's socket for it; none for the default beside the control socket.
    pub keeper_socket: Option<PathBuf>,
    /// Its identities.
    pub identities: Selection,
    /// Its roles.
    pub roles: Roles,
    /// Whether it serves the control socket without a name.
    pub control: bool,
    /// The named control sockets that it serves.
    pub sockets: BTreeSet<String>,
    /// The configured listeners that it serves.
    pub listeners: BTreeSet<String>,
    /// The domain of its ticket keys; none for its own name.
    pub ticket_domain: Option<String>,
}

/// Where a file of an identity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// An absolute path.
    Path(PathBuf),
    /// A credential of the systemd unit (systemd.exec(5), LoadCredential=).
    Credential(String),
}

/// A file of an identity, and where it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// Which file.
    pub source: FileSource,
    /// Where the configuration names it; the file itself where it was discovered.
    pub location: Location,
}

/// One identity's files and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The private key, with or without its chain.
    pub key: FileRef,
    /// The chain, leaf first; none where it is in the key's file, or where the identity is a bare key.
    pub certificate: Option<FileRef>,
    /// The key's passphrase.
    pub password: Option<FileRef>,
    /// OCSP response.
    pub staple: Option<FileRef>,
    /// The aliases that the configuration gives it.
    pub aliases: Vec<String>,
    /// Whether the configuration says that other identities have the same key.
    pub shared_key: bool,
    /// Where it is declared; the key's file where it was discovered.
    pub location: Location,
    /// A file that was found in a directory. A file without a key is not an identity, which is not an error.
    pub discovered: bool,
}

impl Identity {
    /// Everything that it answers to beside its name: paths of its key and certificate, as declared and with `..`
    /// resolved as text, then its aliases.
    pub fn other_names(&self) -> Vec<String> {
        let paths =
            [Some(&self.key), self.certificate.as_ref()].into_iter().flatten().filter_map(|file| match &file
                .source
            {
                FileSource::Path(path) => Some(path),
                FileSource::Credential(_) => None,
            });
        let paths = paths.flat_map(|path| [path.clone(), without_dots(path)]);
        let mut names: Vec<String> = paths.filter_map(|path| path.to_str().map(str::to_owned)).collect();
        names.dedup();
        names.extend(self.aliases.iter().cloned());
        names
    }
}

/// The path with `.` and `..` resolved as text: programs name identities by text, and nothing is opened by it.
pub(super) fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// A bundle of CA certificates and CRLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// A bundle.
    pub file: Option<PathBuf>,
    /// A directory of certificates and CRLs.
    pub directory: Option<PathBuf>,
    /// A file of CRLs.
    pub crl: Option<PathBuf>,
    /// Where it is declared.
    pub location: Location,
}

/// A listener that the supervisor binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where; none where a socket unit decides.
    pub address: Option<SocketAddr>,
    /// Where it is declared.
    pub location: Location,
}

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--identities`, each
    pub identities: Vec<PathBuf>,
    /// `--socket`
    pub socket: Option<PathBuf>,
}

impl Request {
    /// The file to read: the one that was named; else the default one, unless identities were named or there is none.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.config {
            Some(file) => Some(file.clone()),
            None if !self.identities.is_empty() => None,
            None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()),
        }
    }
}

/// A configuration that was read, or why not. There is an error among the findings exactly when there is no
/// configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; none where it has an error.
    pub config: Option<Config>,
    /// The valid part of a configuration that has an error. Only for finding more errors; never serve it.
    pub rest: Option<Config>,
    /// Everything that an operator should know.
    pub findings: Vec<Finding>,
}

/// The usual lifetime of a session, in seconds.
pub(super) const USUAL_LIFETIME: u32 = 2 * 3600;

/// How sessions are resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tickets {
    /// The length of an epoch of ticket keys, in seconds.
    pub epoch: u32,
    /// How long after its full handshake a session can be resumed, in seconds; 0 for never.
    pub lifetime: u32,
    /// The root of the keys; none for one that the keeper draws at its start.
    pub root: Option<FileRef>,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { epoch: EPOCH, lifetime: USUAL_LIFETIME, root: None }
    }
}
