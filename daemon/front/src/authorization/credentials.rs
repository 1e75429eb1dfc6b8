//! The credentials of the peer of a control socket, from the kernel.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// The maximum number of groups of a process (NGROUPS_MAX of Linux).
const MAX_GROUPS: usize = 65_536;

/// The credentials of a peer when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    /// The primary group.
    pub(crate) gid: u32,
    /// The primary and supplementary groups.
    pub(crate) gids: Vec<u32>,
    /// The process that connected, for the log; `None` if it belongs to another PID namespace.
    pub(crate) pid: Option<u32>,
}

/// Reads SO_PEERCRED and SO_PEERGROUPS.
///
/// # Errors
/// Returns an error if the socket is not a Unix socket.
pub(crate) fn credentials(socket: impl AsFd) -> io::Result<Credentials> {
    let libc::ucred { pid, uid, gid } = user_and_process(&socket)?;
    let mut gids = supplementary_groups(&socket)?;
    gids.push(gid);
    Ok(Credentials { uid, gid, gids, pid: u32::try_from(pid).ok().filter(|pid| *pid != 0) })
}

/// Checks that the peer is root or the front's user.
pub(crate) fn check_supervisor(socket: impl AsFd) -> io::Result<()> {
    let uid = credentials(socket)?.uid;
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("uid {uid} is not the supervisor's"),
        ));
    }
    Ok(())
}

/// Reads SO_PEERCRED through libc. rustix has no value for a process of another PID namespace, whose number is 0.
fn user_and_process(socket: &impl AsFd) -> io::Result<libc::ucred> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut bytes = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or_default();
    // SAFETY: the pointer and the length describe `cred`, which lives through the call and has no invalid values.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut bytes,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // If the kernel wrote fewer bytes, the zeros that remain would stand for root.
    if bytes as usize != size_of::<libc::ucred>() {
        return Err(io::Error::other("the kernel does not say who is at the other end"));
    }
    Ok(cred)
}

fn supplementary_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut room = 64;
    loop {
        let mut gids = vec![0_u32; room];
        let mut bytes = libc::socklen_t::try_from(room * size_of::<u32>()).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: the pointer and the length describe `gids`, which lives through the call. The kernel writes at
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
