//! The configuration as it is in the file. Only [`crate::config::checked`] reads these structs.
//!
//! Values keep their position (`Spanned`), so that a finding can contain the line number. If two types are
//! valid (a user by name or number, a mode as text or number), the value is read without conversion and
//! checked later, with error messages of this crate.

use crate::config::raw_limits::RawLimits;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::{Spanned, Value};

/// A text with its position.
pub(crate) type Text = Spanned<String>;
/// A list of texts, each with its position.
pub(crate) type Texts = Vec<Text>;
/// Tables by name.
pub(crate) type Tables<T> = BTreeMap<Text, T>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    /// `[control]`
    pub control: Control,
    /// `[socket.NAME]`
    pub socket: Tables<Socket>,
    /// `[keeper]`
    pub keeper: Keeper,
    /// `[front.NAME]`
    pub front: Tables<Front>,
    /// `[identity.NAME]`
    pub identity: Tables<Identity>,
    /// `[identities]`
    pub identities: Identities,
    /// `[trust.NAME]`
    pub trust: Tables<Trust>,
    /// `[listener.NAME]`
    pub listener: Tables<Listener>,
    /// `[[grant]]`
    pub grant: Vec<Spanned<Grant>>,
    /// `[limits]`
    pub limits: RawLimits,
    /// `[tickets]`
    pub tickets: Tickets,
    /// `[log]`
    pub log: Log,
}

/// `[control]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Control {
    /// Path of the control socket.
    pub socket: Option<Text>,
    /// Its file mode, in octal.
    pub mode: Option<Spanned<Value>>,
    /// The group of the socket file: a name or a number.
    pub group: Option<Spanned<Value>>,
}

/// `[socket.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Socket {
    /// Path of the socket.
    pub path: Option<Text>,
    /// Its file mode, in octal.
    pub mode: Option<Spanned<Value>>,
    /// The group of the socket file: a name or a number.
    pub group: Option<Spanned<Value>>,
}

/// `[keeper]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Keeper {
    /// The user of the keeper if root starts it.
    pub user: Option<Spanned<Value>>,
}

/// `[front.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Front {
    /// The user of the front if root starts it.
    pub user: Option<Spanned<Value>>,
    /// Path of the keeper's socket for this front.
    pub keeper_socket: Option<Text>,
    /// Names of its identities.
    pub identities: Option<Texts>,
    /// `server`, `client`.
    pub roles: Option<Texts>,
    /// Named control sockets that it serves.
    pub sockets: Option<Texts>,
    /// Named listeners that it serves.
    pub listeners: Option<Texts>,
    /// Fronts of one domain share their ticket keys.
    pub ticket_domain: Option<Text>,
}

/// `[identity.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Identity {
    /// Key file, or `credential:NAME`.
    pub key: Option<Text>,
    /// Certificate file, leaf first.
    pub certificate: Option<Text>,
    /// File with the key's passphrase, or `credential:NAME`.
    pub password_file: Option<Text>,
    /// OCSP response, DER.
    pub staple: Option<Text>,
    /// Other names.
    pub aliases: Texts,
    /// Whether other identities may have the same key.
    pub shared_key: bool,
}

/// `[identities]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Identities {
    /// A directory of identities.
    pub directory: Option<Text>,
}

/// `[trust.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Trust {
    /// A bundle of certificates.
    pub file: Option<Text>,
    /// A directory of certificates and CRLs in the layout of `openssl rehash`.
    pub directory: Option<Text>,
    /// A file of CRLs.
    pub crl: Option<Text>,
}

/// `[listener.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listener {
    /// `IP:PORT`.
    pub address: Option<Text>,
}

/// `[[grant]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Grant {
    /// A user, by name or number.
    pub user: Option<Spanned<Value>>,
    /// A group, by name or number.
    pub group: Option<Spanned<Value>>,
    /// A named control socket.
    pub socket: Option<Text>,
    /// Names of identities, or `*`.
    pub identities: Texts,
    /// `server`, `client`.
    pub roles: Option<Texts>,
    /// Names of listeners, or `*`.
    pub listeners: Texts,
    /// Whether the caller may pass its own listening sockets.
    pub listen: Option<bool>,
    /// Whether the caller may pass its own connected sockets.
    pub connect: Option<bool>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub minimum_protocol: Option<Text>,
    /// Whether the peer must be verified.
    pub verify_required: bool,
    /// Whether secrets may be logged.
    pub key_log: bool,
    /// Whether RSA key exchange is allowed.
    pub rsa_key_exchange: bool,
    /// Whether servers may offer DHE key exchange.
    pub dhe: bool,
    /// Whether each use is logged.
    pub audit: bool,
    /// Names of the trusts that contexts are restricted to.
    pub trusts: Option<Texts>,
    /// Limit on the number of connections.
    pub max_connections: Option<Spanned<i64>>,
    /// Limit on the number of contexts.
    pub max_contexts: Option<Spanned<i64>>,
}

/// `[tickets]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tickets {
    /// Length of an epoch of ticket keys, in seconds.
    pub epoch: Option<Spanned<i64>>,
    /// The time during which a session can be resumed, in seconds.
    pub lifetime: Option<Spanned<i64>>,
    /// A file, or `credential:NAME`.
    pub root: Option<Text>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: Option<Text>,
    /// `text` or `journal`.
    pub format: Option<Text>,
}
