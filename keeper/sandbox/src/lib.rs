//! What keeper and front give up once they have started, beyond what systemd takes from them and also without it.
//!
//! A process calls [`isolation::enter`] first where `luassld run` started it, [`user::change`] where that is root,
//! [`close_to_others`], and, as its last single thread, [`files::none`] and [`calls::restrict`]: threads that are started
//! later inherit both.

#![deny(unsafe_code)]

pub mod calls;
mod error;
pub mod files;
#[cfg(feature = "hostile")]
#[allow(unsafe_code)]
pub mod hostile;
pub mod isolation;
#[allow(unsafe_code)]
mod timezone;
pub mod user;

#[cfg(all(feature = "hostile", not(debug_assertions)))]
compile_error!("a process that attacks is for tests of its sandbox alone");

pub use error::SandboxError;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps; no ptrace, no /proc/PID/mem, no process_vm_readv and no pidfd_getfd for processes of the same user; no
/// new privileges by exec.
///
/// # Errors
/// [`SandboxError::Close`].
pub fn close_to_others() -> Result<(), SandboxError> {
    timezone::read();
    let close = || {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        rustix::thread::set_no_new_privs(true)
    };
    close().map_err(SandboxError::Close)
}
