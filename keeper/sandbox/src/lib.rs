//! What keeper and front give up once they have started, beyond what systemd takes from them and also without it.
//!
//! A process calls [`isolation::enter`] first where `luassld run` started it, [`user::change`] where that is root,
//! [`close_to_others`], and, as its last single thread, [`files::none`] and [`calls::restrict`]: threads that are started
//! later inherit both.

#![deny(unsafe_code)]

pub mod calls;
pub mod files;
#[cfg(feature = "hostile")]
#[allow(unsafe_code)]
pub mod hostile;
pub mod isolation;
pub mod user;
#[allow(unsafe_code)]
mod zone;

#[cfg(all(feature = "hostile", not(debug_assertions)))]
compile_error!("a process that attacks is for tests of its sandbox alone");

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Why a process could not be restricted. It must not serve then.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Core dumps, debuggers or new privileges cannot be kept out.
    #[error("the process cannot be closed to debuggers and core dumps: {0}")]
    Close(#[source] Errno),
    /// The kernel takes no seccomp filter.
    #[error("system calls cannot be restricted: {0}")]
    Calls(#[from] seccompiler::Error),
    /// The kernel takes no seccomp filter that logs.
    #[error("system calls cannot be restricted: {0}")]
    Logged(#[source] std::io::Error),
    /// The filter cannot be written for this machine.
    #[error("system calls cannot be restricted: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel has Landlock and does not take the rules.
    #[error("files cannot be locked away: {0}")]
    Files(#[from] landlock::RulesetError),
    /// The process gets no root directory and no network of its own.
    #[error("the process gets no empty root directory and no network of its own: {0}")]
    Isolation(#[source] Errno),
    /// The process cannot become another user.
    #[error("the process cannot become user {0}: {1}")]
    User(user::User, #[source] Errno),
}

/// No core dumps; no ptrace, no /proc/PID/mem, no process_vm_readv and no pidfd_getfd for processes of the same user; no
/// new privileges by exec.
///
/// # Errors
/// [`SandboxError::Close`].
pub fn close_to_others() -> Result<(), SandboxError> {
    zone::read();
    let close = || {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        rustix::thread::set_no_new_privs(true)
    };
    close().map_err(SandboxError::Close)
}
