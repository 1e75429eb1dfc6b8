//! Common parts of all checks of a configuration: findings, paths, names, users.

use crate::config::finding::{Finding, nearest};
use crate::config::model::Roles;
use crate::config::raw::{self, Text};
use crate::config::sections::accounts;
use crate::config::source::Source;
use luassl_sandbox::user::User;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::{Spanned, Value};

/// The length of sun_path (unix(7)) without its terminating zero.
const MAX_SOCKET_PATH: usize = 107;
/// The names of sockets, fronts and listeners are passed in LISTEN_FDNAMES. sd_listen_fds(3) limits a name to
/// 255 bytes.
const MAX_NAME: usize = 64;

/// Returns whether a name is valid in LISTEN_FDNAMES.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(plain)
}

/// Collects findings during the check of one file.
pub(crate) struct Checker<'a> {
    pub(crate) source: &'a Source,
    pub(crate) findings: Vec<Finding>,
}

impl Checker<'_> {
    pub(crate) fn error(&mut self, span: Range<usize>, cause: impl Into<String>, hint: impl Into<String>) {
        let location = self.source.location(span);
        self.findings.push(Finding::error(location, cause).hint(hint));
    }

    /// Returns a path of the file as an absolute path. A relative path is relative to the file's directory.
    pub(crate) fn path(&mut self, text: &Text) -> PathBuf {
        let given = Path::new(text.get_ref());
        if given.as_os_str().is_empty() || text.get_ref().contains('\0') {
            self.error(text.span(), "invalid path", "name a file");
        }
        if given.is_absolute() {
            return given.to_owned();
        }
        let joined = self.source.directory().join(given);
        std::path::absolute(&joined).unwrap_or(joined)
    }

    pub(crate) fn socket_path(&mut self, text: &Text) -> PathBuf {
        let path = self.path(text);
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let cause = format!("the socket path is too long: {length} bytes");
            self.error(text.span(), cause, format!("the kernel allows at most {MAX_SOCKET_PATH}"));
        }
        self.warn_without_directory(text, &path);
        path
    }

    /// Warns if the directory of a socket does not exist. Directories below /run are exempt: they are created
    /// when the machine or the service starts.
    fn warn_without_directory(&mut self, text: &Text, socket: &Path) {
        let Some(directory) = socket.parent() else { return };
        if directory.starts_with("/run") || directory.is_dir() {
            return;
        }
        let cause = format!("the socket's directory {} does not exist", directory.display());
        let hint = "create it: `luassld run` does not (systemd does, for the sockets of its units)";
        self.findings.push(Finding::warning(self.source.location(text.span()), cause).hint(hint));
    }

    /// Checks every table of one kind. The name of each must be valid in LISTEN_FDNAMES.
    pub(crate) fn tables<R, C>(
        &mut self,
        raw: &raw::Tables<R>,
        check: fn(&mut Self, &Text, &R) -> C,
    ) -> BTreeMap<String, C> {
        raw.iter()
            .map(|(name, table)| {
                self.plain_name(name);
                (name.get_ref().clone(), check(self, name, table))
            })
            .collect()
    }

    pub(crate) fn plain_name(&mut self, name: &Text) {
        let text = name.get_ref();
        if !is_plain(text) {
            let hint = format!("use up to {MAX_NAME} letters, digits, `_`, `-` and `.`");
            self.error(name.span(), format!("`{text}` is not a valid name"), hint);
        }
    }

    /// Returns the user for a process, with the user's primary group. The gid of a user that the system does
    /// not know is equal to its uid.
    pub(crate) fn user(&mut self, value: &Spanned<Value>) -> Option<User> {
        let uid = self.account(value, "user", accounts::uid_of)?;
        let gid = accounts::gid_of_user(uid).ok().flatten().unwrap_or(uid);
        let user = User::new(uid, gid);
        if user.is_none() {
            let hint = "name a dedicated user, or omit `user` and luassld chooses one";
            self.error(value.span(), "the keeper and the fronts cannot run as root", hint);
        }
        user
    }

    /// Returns the number of a user or a group that is given by name or number.
    pub(crate) fn account(
        &mut self,
        value: &Spanned<Value>,
        kind: &str,
        look_up: fn(&str) -> std::io::Result<Option<u32>>,
    ) -> Option<u32> {
        let fault = match value.get_ref() {
            Value::Integer(number) => match u32::try_from(*number) {
                Ok(id) if id != u32::MAX => return Some(id),
                _ => format!("{number} is not a valid {kind} number"),
            },
            Value::String(text) => match text.parse().map_or_else(|_| look_up(text), |id| Ok(Some(id))) {
                Ok(Some(id)) => return Some(id),
                Ok(None) => format!("unknown {kind} `{text}`"),
                Err(error) => format!("{kind} `{text}` cannot be looked up: {error}"),
            },
            _ => format!("this is not a {kind}"),
        };
        let hint = format!(
            "name a {kind} that `getent {kind_db}` knows, or give its number",
            kind_db = match kind {
                "user" => "passwd",
                other => other,
            }
        );
        self.error(value.span(), fault, hint);
        None
    }

    pub(crate) fn roles(&mut self, texts: Option<&raw::Texts>) -> Roles {
        let Some(texts) = texts else { return Roles { server: true, client: true } };
        let mut roles = Roles { server: false, client: false };
        for text in texts {
            match text.get_ref().as_str() {
                "server" => roles.server = true,
                "client" => roles.client = true,
                other => {
                    self.error(text.span(), format!("unknown role `{other}`"), "use server or client");
                }
            }
        }
        roles
    }

    /// Returns whether `text` is among `known`. If not, reports an error that contains the kind and the
    /// nearest known name.
    pub(crate) fn refers<'k>(
        &mut self,
        text: &Text,
        kind: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> bool {
        let known: Vec<&str> = known.into_iter().collect();
        let name = text.get_ref().as_str();
        if known.contains(&name) {
            return true;
        }
        let hint = nearest(name, known)
            .map_or_else(|| format!("declare [{kind}.{name}]"), |near| format!("did you mean `{near}`?"));
        self.error(text.span(), format!("unknown {kind} `{name}`"), hint);
        false
    }
}
