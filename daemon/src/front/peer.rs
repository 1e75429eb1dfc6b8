//! Who is at the other end of a control socket, from the kernel.
#![allow(unsafe_code)]

use rustix::net::sockopt::socket_peercred;
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// The most groups that a process can be in (Linux' NGROUPS_MAX).
const MAX_GROUPS: usize = 65_536;

/// Credentials of a peer at the time that it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    /// Primary and supplementary groups.
    pub(super) gids: Vec<u32>,
}

/// Reads SO_PEERCRED and SO_PEERGROUPS.
///
/// # Errors
/// When the socket is no Unix socket.
pub(super) fn credentials(socket: impl AsFd) -> io::Result<Credentials> {
    let cred = socket_peercred(&socket)?;
    let mut gids = supplementary_groups(&socket)?;
    gids.push(cred.gid.as_raw());
    Ok(Credentials { uid: cred.uid.as_raw(), gids })
}

fn supplementary_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut room = 64;
    loop {
        let mut gids = vec![0_u32; room];
        let mut bytes = libc::socklen_t::try_from(room * size_of::<u32>()).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: the pointer and the length describe `gids`, which lives through the call; the kernel writes at
        // most that many bytes.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                gids.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        if outcome == 0 {
            gids.truncate(bytes as usize / size_of::<u32>());
            return Ok(gids);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || room >= MAX_GROUPS {
            return Err(error);
        }
        room = MAX_GROUPS;
    }
}
