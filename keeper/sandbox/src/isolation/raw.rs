//! The two steps of isolation that Rust cannot check.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::UnshareFlags;

/// New namespaces for this process.
pub(super) fn unshare(spaces: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: namespaces alone are unshared, never the table of descriptors, which others of this process may rely on.
    unsafe { rustix::thread::unshare_unsafe(spaces) }
}

/// Runs a function in a forked child, which then exits, and returns its error.
pub(super) fn in_a_child(act: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    // SAFETY: the child runs `act` alone, which makes system calls, and ends by _exit without what this process would do at
    // its end. libc keeps its allocator usable in the child of a process with threads.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = act().err().map_or(0, Errno::raw_os_error);
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) };
    }
    let child = Pid::from_raw(child).filter(|_| child > 0).ok_or(Errno::AGAIN)?;
    let ended = rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()))?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw_os_error(code)),
        // Killed, as by a filter of system calls.
        None => Err(Errno::PERM),
    }
}
