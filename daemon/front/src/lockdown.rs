//! The privileges that the front gives up when it starts, so that an attacker who takes it over has few possibilities.
//! It has no files, no programs, no other processes, and only Unix sockets and the sockets that are passed to it.
//!
//! A call that is not on the list fails with EPERM, and does not end the process. Otherwise thousands of connections
//! would end because of a call that may be a harmless check in a library.

use luassl_sandbox::SandboxError;
use luassl_sandbox::calls::{self, Call, Otherwise, any};
use luassl_sandbox::files::{self, Enforced, UnixSockets};
use luassl_sandbox::isolation::{self, Isolation};
use luassl_sandbox::user::{self, User};
use std::path::PathBuf;

/// Isolates the process before anything else. It gets an empty root directory that contains the keeper's socket, and a
/// dedicated user. It is closed to debuggers and core dumps, also to those of this user. Returns the path of the
/// keeper's socket after that.
pub(super) fn close(
    isolation: Option<Isolation>,
    user: Option<User>,
    keeper: PathBuf,
) -> Result<PathBuf, SandboxError> {
    let keeper = match isolation {
        None => keeper,
        Some(isolation) => {
            isolation::enter(isolation, Some(&keeper))?;
            PathBuf::from(isolation::SOCKET)
        }
    };
    user.map_or(Ok(()), user::change)?;
    luassl_sandbox::close_to_others()?;
    Ok(keeper)
}

/// Restricts this thread, which has to be the only one, and the threads that it starts.
pub(super) fn lock_down() -> Result<(), SandboxError> {
    if files::none(UnixSockets::Connects)? == Enforced::Not {
        tracing::warn!(
            "the kernel has no Landlock (Linux 5.13, lsm=landlock): seccomp alone keeps files away"
        );
    }
    calls::restrict(&needed(), Otherwise::Refuse)
}

/// Returns all system calls that the front makes.
fn needed() -> Vec<Call> {
    let mut calls = calls::of_threads();
    calls.extend(NEEDED.iter().copied().map(any));
    // Connections to the keeper and to systemd, and the socket pairs for programs.
    let unix = i64::from(libc::AF_UNIX);
    calls.extend([any(libc::SYS_socket).with(0, unix), any(libc::SYS_socketpair).with(0, unix)]);
    let descriptor_flags =
        [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];
    calls.extend(descriptor_flags.map(|operation| any(libc::SYS_fcntl).with(1, operation)));
    let non_blocking = libc::FIONBIO.cast_signed();
    calls.push(any(libc::SYS_ioctl).with_bits(1, u32::MAX.into(), non_blocking.cast_unsigned()));
    calls
}

const NEEDED: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    // The settings of a push.
    libc::SYS_fstat,
    libc::SYS_pread64,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // Credentials.
    libc::SYS_getuid,
    libc::SYS_geteuid,
];
