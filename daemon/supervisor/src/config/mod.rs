//! The configuration. It is read once and checked completely. After the check, every mandatory value is
//! present.
//!
//! This module does not handle connections and does not open keys. It defines the grants, and which files
//! belong together.

mod checked;
mod checker;
mod directory;
mod few;
mod finding;
mod leave_out;
mod model;
mod raw;
mod raw_limits;
pub(crate) mod sections;
mod source;

pub(crate) use checker::is_plain;
pub use directory::{DISCOVERED_BYTES, DISCOVERED_MAX, Discovered};
pub(crate) use few::{FEW, few, few_names};
pub use finding::{Finding, Location, Severity, nearest};
pub use model::{
    Config, DEFAULT_FILE, DEFAULT_FRONT, FileRef, FileSource, Front, Identity, Listener, Loaded, Request,
    Roles, Selection, SocketFile, Tickets, Trust,
};

use luassl_protocol::ProtocolVersion;
use luassl_settings::{Grant, Grantee};
use source::Source;
use std::path::Path;

/// Reads and checks the configuration that the command line selects. Opens the configuration file and lists
/// directories; does not open keys.
pub fn load(request: &Request) -> Loaded {
    let source = match request.file().map(|file| Source::read(&file)).transpose() {
        Ok(source) => source,
        Err(finding) => return Loaded { config: None, rest: None, findings: vec![finding] },
    };
    load_source(source.as_ref(), request)
}

/// Like [`load`], but reads `text` instead of the file of `request`.
pub fn load_text(file: &Path, text: &str, request: &Request) -> Loaded {
    load_source(Some(&Source::from_text(file, text)), request)
}

fn load_source(source: Option<&Source>, request: &Request) -> Loaded {
    let Some(source) = source else { return embedded(request) };
    let (file, mistakes) = source.parse();
    checked::check(source, &file, request, mistakes)
}

/// Returns the default for a run without a configuration file: one front with everything, and all rights for
/// the uid that started it.
fn embedded(request: &Request) -> Loaded {
    let file = Source::from_text(Path::new("command line"), "");
    let mut loaded = checked::check(&file, &raw::File::default(), request, Vec::new());
    if let Some(config) = &mut loaded.config {
        config.grants = vec![everything(rustix::process::getuid().as_raw())];
    }
    loaded
}

/// Returns the grant of the embedded default. DHE is on, so that LuaSSL's `dhfile` works as its manual
/// describes. RSA key exchange is off, because it has no forward secrecy; users who need it write a
/// configuration that enables it.
fn everything(uid: u32) -> Grant {
    let all = || vec!["*".to_owned()];
    Grant {
        grantee: Grantee::User(uid),
        identities: all(),
        server: true,
        client: true,
        listeners: all(),
        listen: true,
        connect: true,
        minimum_protocol: ProtocolVersion::Tls12,
        verify_required: false,
        key_log: true,
        rsa_key_exchange: false,
        dhe: true,
        audit: false,
        trusts: None,
        max_connections: None,
        max_contexts: None,
    }
}

#[cfg(test)]
mod tests;
