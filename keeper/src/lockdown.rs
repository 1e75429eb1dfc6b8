//! Drops the rights that the keeper does not need after it has its sockets: files, the network, and every system call
//! that it does not make.
//!
//! A system call that is not on the list ends the process. The supervisor starts another keeper and reports it, and an
//! attacker who made the call gains nothing.

use crate::log;
use luassl_sandbox::SandboxError;
use luassl_sandbox::calls::{self, Call, Otherwise, any};
use luassl_sandbox::files::{self, Enforced, UnixSockets};

/// Restricts this thread, which must be the only one, and the threads that it starts.
///
/// # Errors
/// [`SandboxError`].
pub(crate) fn lock_down() -> Result<(), SandboxError> {
    match files::none(UnixSockets::None)? {
        Enforced::Fully | Enforced::Partly => {}
        Enforced::Not => {
            log::warning(
                "the kernel has no Landlock (Linux 5.13, lsm=landlock): only seccomp blocks access to files",
            );
        }
    }
    // The malloc of libc reads vm.overcommit_memory before it frees memory, and works without it.
    calls::refuse(OPENING)?;
    calls::restrict(&needed(), Otherwise::Kill)
}

#[cfg(target_arch = "x86_64")]
const OPENING: &[i64] = &[libc::SYS_openat, libc::SYS_open];
#[cfg(not(target_arch = "x86_64"))]
const OPENING: &[i64] = &[libc::SYS_openat];

/// Returns every system call that the keeper makes.
fn needed() -> Vec<Call> {
    let mut calls = calls::of_threads();
    calls.extend(OPENING.iter().copied().map(any));
    #[cfg(target_arch = "x86_64")]
    calls.push(any(libc::SYS_poll));
    // Debug builds of Rust's library check whether a descriptor is open before they close it.
    calls.push(any(libc::SYS_fcntl).with(1, libc::F_GETFD));
    calls.extend(
        [
            // For the sockets of fronts and of the supervisor, and for READY=1.
            libc::SYS_accept4,
            libc::SYS_ppoll,
            libc::SYS_recvmsg,
            libc::SYS_sendmsg,
            libc::SYS_sendto,
            libc::SYS_getsockopt,
            libc::SYS_geteuid,
            libc::SYS_close,
            // For notifying a connection of a change.
            libc::SYS_eventfd2,
            libc::SYS_read,
            libc::SYS_write,
            // For the files of identities.
            libc::SYS_fstat,
            libc::SYS_pread64,
        ]
        .map(any),
    );
    calls
}
