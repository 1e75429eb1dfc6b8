//! Switches permanently to another user, dedicated to the process's role.

use crate::SandboxError;
use rustix::io::Errno;
use rustix::process::{Gid, Uid, getppid, parent_process_death_signal, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::fmt;
use std::str::FromStr;

/// A user and a group by their numbers; neither is root's. Written `UID:GID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    uid: u32,
    gid: u32,
}

/// Not a user that a process can switch to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write UID:GID, both numbers, and neither 0")]
pub struct NoUser;

impl User {
    /// A user with its group; none where one of them is root's (0) or invalid (-1).
    #[must_use]
    pub fn new(uid: u32, gid: u32) -> Option<Self> {
        let good = |id: u32| id != 0 && id != u32::MAX;
        (good(uid) && good(gid)).then_some(Self { uid, gid })
    }

    /// Its number.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// Its group's number.
    #[must_use]
    pub fn gid(self) -> u32 {
        self.gid
    }
}

impl fmt::Display for User {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.uid, self.gid)
    }
}

impl FromStr for User {
    type Err = NoUser;

    fn from_str(text: &str) -> Result<Self, NoUser> {
        let (uid, gid) = text.split_once(':').ok_or(NoUser)?;
        Self::new(uid.parse().map_err(|_| NoUser)?, gid.parse().map_err(|_| NoUser)?).ok_or(NoUser)
    }
}

/// Makes the process `user`: no supplementary groups, no capabilities, and no way back. To be called by the only thread
/// there is. It still ends with its parent, where it did before; whether it is dumpable must be set again.
///
/// # Errors
/// [`SandboxError::User`].
pub fn change(user: User) -> Result<(), SandboxError> {
    let change = || -> Result<(), Errno> {
        empty_bounding_set()?;
        let (parent, end) = (getppid(), parent_process_death_signal()?);
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        set_capabilities(None, none())?;
        // The kernel forgets it when a process becomes another user.
        set_parent_process_death_signal(end)?;
        if end.is_some() && getppid() != parent { Err(Errno::SRCH) } else { Ok(()) }
    };
    change().map_err(|error| SandboxError::User(user.to_string(), error))
}

/// Leaves this process without capabilities, and without a way to get any.
pub(crate) fn give_up_capabilities() -> Result<(), Errno> {
    empty_bounding_set()?;
    set_capabilities(None, none())
}

fn empty_bounding_set() -> Result<(), Errno> {
    clear_ambient_capability_set()?;
    for capability in 0..64_u32 {
        if remove_from_bounding_set(capability)?.is_none() {
            break;
        }
    }
    Ok(())
}

/// None where the kernel has no capability of that number.
fn remove_from_bounding_set(number: u32) -> Result<Option<()>, Errno> {
    match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
        Ok(()) => Ok(Some(())),
        Err(Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

fn none() -> CapabilitySets {
    let none = CapabilitySet::empty();
    CapabilitySets { effective: none, permitted: none, inheritable: none }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_no_user_to_become() {
        for text in ["0:1", "1:0", "1", "", "1:", "-1:1", "4294967295:1", "1:1:1", "a:b"] {
            assert_eq!(text.parse::<User>(), Err(NoUser), "{text}");
        }
        assert_eq!("101:102".parse::<User>().map(|user| user.to_string()).as_deref(), Ok("101:102"));
    }
}
