//! Opens an identity's files. Only the keeper reads their content; this module checks only the permissions.

pub(crate) mod chain;
pub(crate) mod opened;
pub(crate) mod shared;
pub(crate) mod walk;

use crate::config::{FileRef, FileSource, Finding};
use crate::push::files::walk::open_trusted;
use rustix::fs::fstat;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The permission bit that lets users read who are neither the owner nor in the group.
const OTHERS_READ: u32 = 0o004;

/// The directory of the credentials of the keeper's unit while it runs (systemd.exec(5)).
const KEEPER_CREDENTIALS: &str = "/run/credentials/luassl-keeper.service";

/// Opens a file of an identity for the keeper.
///
/// # Errors
/// Returns an error at the location of the file's declaration.
pub(crate) fn open_file(identity: &str, what: &str, file: &FileRef) -> Result<OwnedFd, Finding> {
    open_for(&format!("identity `{identity}`"), what, file)
}

/// Opens the root of the ticket keys for the keeper.
///
/// # Errors
/// Returns an error at the location of the file's declaration.
pub(crate) fn open_root(file: &FileRef) -> Result<OwnedFd, Finding> {
    open_for("[tickets]", "root", file)
}

fn open_for(subject: &str, what: &str, file: &FileRef) -> Result<OwnedFd, Finding> {
    let path = path_of(subject, what, file)?;
    open_trusted(&path).map_err(|fault| {
        let cause = format!("{subject}: {what} {} cannot be opened: {fault}", path.display());
        Finding::error(file.location.clone(), cause).hint(fault.hint())
    })
}

/// Returns the directory of credentials: that of this unit, or, for a `luasslctl reload` outside of a unit,
/// that of the keeper's unit.
fn credentials() -> Option<PathBuf> {
    let keepers = || Some(PathBuf::from(KEEPER_CREDENTIALS)).filter(|directory| directory.is_dir());
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).or_else(keepers)
}

fn path_of(subject: &str, what: &str, file: &FileRef) -> Result<PathBuf, Finding> {
    match &file.source {
        FileSource::Path(path) => Ok(path.clone()),
        FileSource::Credential(name) => {
            credentials().map(|directory| directory.join(name)).ok_or_else(|| {
                let cause = format!(
                    "{subject}: {what} is the credential `{name}`, and no credentials directory was found"
                );
                Finding::error(file.location.clone(), cause)
                    .hint(format!("set LoadCredential={name}:FILE in the unit, or name a file"))
            })
        }
    }
}

/// Warns if every user can read the key.
pub(crate) fn too_open(identity: &str, file: &FileRef, opened: &OwnedFd) -> Option<Finding> {
    warn_if_open(&format!("identity `{identity}`: every user can read its key"), file, opened)
}

/// Warns if every user can read the root of the ticket keys.
pub(crate) fn too_open_root(file: &FileRef, opened: &OwnedFd) -> Option<Finding> {
    warn_if_open("[tickets]: every user can read the root", file, opened)
}

fn warn_if_open(what: &str, file: &FileRef, opened: &OwnedFd) -> Option<Finding> {
    let mode = fstat(opened).ok()?.st_mode;
    (mode & OTHERS_READ != 0).then(|| {
        let cause = format!("{what} (mode {:04o})", mode & 0o7777);
        let remedy = match &file.source {
            FileSource::Path(path) => format!("chmod o-rwx {}", path.display()),
            FileSource::Credential(name) => {
                format!("make the file of credential {name} readable only by its owner")
            }
        };
        Finding::warning(file.location.clone(), cause).hint(remedy)
    })
}
