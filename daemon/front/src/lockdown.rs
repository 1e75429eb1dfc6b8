//! What the front gives up when it starts, so that whoever takes it over has little to go on with: no files, no programs,
//! no processes but its own, and no sockets but Unix ones and those that are passed to it.
//!
//! A call that is not on the list fails with EPERM, and does not end the process: thousands of connections would end
//! with it, for what may be a library's harmless look at something.

use luassl_sandbox::SandboxError;
use luassl_sandbox::calls::{self, Call, Otherwise, any};
use luassl_sandbox::files::{self, Enforced, UnixSockets};
use luassl_sandbox::isolation::{self, Isolation};
use luassl_sandbox::user::{self, User};
use std::path::PathBuf;

/// First of all: an empty root directory with the keeper's socket in it, a user of its own, and closed to debuggers and
/// core dumps, also to those of that user. Gives where the keeper's socket is then.
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

/// Restricts this thread, which has to be the only one, and those that it starts.
pub(super) fn lock_down() -> Result<(), SandboxError> {
    if files::none(UnixSockets::Connects)? == Enforced::Not {
        tracing::warn!(
            "the kernel has no Landlock (Linux 5.13, lsm=landlock): seccomp alone keeps files away"
        );
    }
    calls::restrict(&needed(), Otherwise::Refuse)
}

/// Every call that the front makes.
fn needed() -> Vec<Call> {
    let mut calls = calls::of_threads();
    calls.extend(NEEDED.iter().copied().map(any));
    // Connections to the keeper and to systemd; the pairs that programs get.
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
    // Who asks.
    libc::SYS_getuid,
    libc::SYS_geteuid,
];
