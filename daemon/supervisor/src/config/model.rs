//! A checked configuration.

use crate::config::finding::{Finding, Location};
use luassl_keeper_ipc::admin::EPOCH;
use luassl_sandbox::user::User;
use luassl_settings::{Grant, Limits, Log};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

/// The configuration file that is read, if it exists, when the command line does not name one.
pub const DEFAULT_FILE: &str = "/etc/luassl/luassl.toml";
/// The front that serves everything that is not assigned to another front. It is the only front if the
/// configuration declares no fronts.
pub const DEFAULT_FRONT: &str = "default";
/// The mode of control sockets. Every user may connect; the grants decide what a user may do.
pub(super) const SOCKET_MODE: u32 = 0o666;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The control socket. If no path is given, the location is chosen at the start.
    pub control: SocketFile,
    /// Named control sockets.
    pub sockets: BTreeMap<String, SocketFile>,
    /// The user of the keeper if root starts it; `None` if the supervisor chooses one.
    pub keeper_user: Option<User>,
    /// The fronts by name. There is at least one.
    pub fronts: BTreeMap<String, Front>,
    /// The identities by name, including discovered ones.
    pub identities: BTreeMap<String, Identity>,
    /// Trusts by name, without `system`.
    pub trusts: BTreeMap<String, Trust>,
    /// Configured listeners by name.
    pub listeners: BTreeMap<String, Listener>,
    /// The grants.
    pub grants: Vec<Grant>,
    /// Deadlines and limits.
    pub limits: Limits,
    /// The settings of session resumption.
    pub tickets: Tickets,
    /// The settings of the log.
    pub log: Log,
}

/// A control socket in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    /// The path; `None` if a socket unit or the default determines it.
    pub path: Option<PathBuf>,
    /// The permissions of the file.
    pub mode: u32,
    /// The group of the file; `None` for the group of the supervisor.
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
    /// All identities, including those that a reload adds.
    All,
    /// The given identities.
    Only(BTreeSet<String>),
}

impl Selection {
    /// Returns whether the selection contains `name`.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// The roles in which identities may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Accepting connections.
    pub server: bool,
    /// Presenting a client certificate.
    pub client: bool,
}

/// One front: what it serves, and which identities it may use through the keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// The user of the front if root starts it; `None` if the supervisor chooses one.
    pub user: Option<User>,
    /// The keeper's socket for this front; `None` for the default, which is beside the control socket.
    pub keeper_socket: Option<PathBuf>,
    /// Its identities.
    pub identities: Selection,
    /// Its roles.
    pub roles: Roles,
    /// Whether it serves the unnamed control socket.
    pub control: bool,
    /// The named control sockets that it serves.
    pub sockets: BTreeSet<String>,
    /// The configured listeners that it serves.
    pub listeners: BTreeSet<String>,
    /// The domain of its ticket keys; `None` if the front's name is the domain.
    pub ticket_domain: Option<String>,
}

/// The source of a file of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// An absolute path.
    Path(PathBuf),
    /// A credential of the systemd unit (systemd.exec(5), LoadCredential=).
    Credential(String),
}

/// A file of an identity, with the location of its declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// The source of the file.
    pub source: FileSource,
    /// The location of its declaration in the configuration. For a discovered file, this is the file itself.
    pub location: Location,
}

/// The files and names of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The private key. The file may also contain the chain.
    pub key: FileRef,
    /// The chain, leaf first; `None` if it is in the key's file, or if the identity is a bare key.
    pub certificate: Option<FileRef>,
    /// The key's passphrase.
    pub password: Option<FileRef>,
    /// The OCSP response.
    pub staple: Option<FileRef>,
    /// The aliases from the configuration.
    pub aliases: Vec<String>,
    /// Whether the configuration declares that other identities have the same key.
    pub shared_key: bool,
    /// The location of its declaration. For a discovered identity, this is the key's file.
    pub location: Location,
    /// Whether it was found in a directory. A file without a key is then not an identity, and this is not an
    /// error.
    pub discovered: bool,
}

impl Identity {
    /// Returns all names of the identity except its main name: the paths of its key and certificate, as
    /// declared and with `..` resolved lexically, then its aliases.
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

/// Resolves `.` and `..` in a path lexically. Programs use such paths as names of identities; they are not
/// used to open files.
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

/// A set of CA certificates and CRLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// A file of CA certificates.
    pub file: Option<PathBuf>,
    /// A directory of certificates and CRLs.
    pub directory: Option<PathBuf>,
    /// A file of CRLs.
    pub crl: Option<PathBuf>,
    /// The location of its declaration.
    pub location: Location,
}

/// A listener that the supervisor binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address; `None` if a socket unit determines it.
    pub address: Option<SocketAddr>,
    /// The location of its declaration.
    pub location: Location,
}

/// The command line's options about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--identities`, once for each directory.
    pub identities: Vec<PathBuf>,
    /// `--socket`
    pub socket: Option<PathBuf>,
}

impl Request {
    /// Returns the file to read: the one of the command line, or else the default file. Returns `None`
    /// instead of the default file if the command line names identities or if the file does not exist.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.config {
            Some(file) => Some(file.clone()),
            None if !self.identities.is_empty() => None,
            None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()),
        }
    }
}

/// The result of loading a configuration. The findings contain an error if and only if `config` is `None`.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` if it has an error.
    pub config: Option<Config>,
    /// The valid part of a configuration that has an error. It is used only to find further errors and is
    /// never served.
    pub rest: Option<Config>,
    /// All findings.
    pub findings: Vec<Finding>,
}

/// The default lifetime of a session, in seconds.
pub(super) const USUAL_LIFETIME: u32 = 2 * 3600;

/// The settings of session resumption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tickets {
    /// The length of an epoch of ticket keys, in seconds.
    pub epoch: u32,
    /// The time after its full handshake during which a session can be resumed, in seconds; 0 disables
    /// resumption.
    pub lifetime: u32,
    /// The root of the keys; `None` if the keeper generates one at its start.
    pub root: Option<FileRef>,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { epoch: EPOCH, lifetime: USUAL_LIFETIME, root: None }
    }
}
