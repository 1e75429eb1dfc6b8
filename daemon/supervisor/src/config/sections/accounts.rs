//! Users and groups by name, from the system's name service (nsswitch.conf: files, LDAP, systemd). An entry
//! has at most 1 MiB. A group with tens of thousands of members fits.

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User},
};
use std::io;

/// Returns the uid of the user `name`, or `None` if there is no such user.
///
/// # Errors
/// Returns an error if the name service fails.
pub(crate) fn uid_of(name: &str) -> io::Result<Option<u32>> {
    Ok(found(User::from_name(name))?.map(|user| user.uid.as_raw()))
}

/// Returns the gid of the group `name`, or `None` if there is no such group.
///
/// # Errors
/// Returns an error if the name service fails.
pub(crate) fn gid_of(name: &str) -> io::Result<Option<u32>> {
    Ok(found(Group::from_name(name))?.map(|group| group.gid.as_raw()))
}

/// Returns the gid of the user with this uid, or `None` if there is no such user.
///
/// # Errors
/// Returns an error if the name service fails.
pub(crate) fn gid_of_user(uid: u32) -> io::Result<Option<u32>> {
    Ok(found(User::from_uid(Uid::from_raw(uid)))?.map(|user| user.gid.as_raw()))
}

/// Returns whether there is a group with this gid.
///
/// # Errors
/// Returns an error if the name service fails.
pub(crate) fn is_group(gid: u32) -> io::Result<bool> {
    Ok(found(Group::from_gid(Gid::from_raw(gid)))?.is_some())
}

/// Converts the errors with which some name services report a missing entry to `None`; see getpwnam(3).
fn found<T>(outcome: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match outcome {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        outcome => outcome.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_nobody_of_that_name_is_not() {
        assert_eq!(uid_of("root").expect("nss answers"), Some(0));
        assert_eq!(gid_of("root").expect("nss answers"), Some(0));
        assert_eq!(uid_of("no-such-user-here").expect("nss answers"), None);
        assert_eq!(gid_of("no\0name").expect("no question asked"), None);
        assert_eq!(gid_of_user(0).expect("nss answers"), Some(0));
        assert_eq!(gid_of_user(4_000_000_001).expect("nss answers"), None);
        assert!(is_group(0).expect("nss answers") && !is_group(4_000_000_001).expect("nss answers"));
    }
}
