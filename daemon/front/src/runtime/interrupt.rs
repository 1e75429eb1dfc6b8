//! Interrupts a thread that a system call may block, by a signal whose handler does nothing and lacks SA_RESTART.
#![allow(unsafe_code)]

use std::{io, os::unix::thread::JoinHandleExt, sync::OnceLock, thread::JoinHandle};

const SIGNAL: libc::c_int = libc::SIGUSR1;

extern "C" fn nothing(_: libc::c_int) {}

/// Installs the handler. It must be called before the start of the first thread that may have to be interrupted. A
/// second call does nothing.
///
/// # Errors
/// Returns an error if the kernel refuses.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.get().is_none() {
        install_now()?;
        let _ = INSTALLED.set(());
    }
    Ok(())
}

fn install_now() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is a valid value (no flags: no SA_RESTART, empty mask).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: `action` is a valid sigaction, whose handler is async-signal-safe because it does nothing.
    let outcome = unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Interrupts the system call that the thread is in, if any.
pub(crate) fn interrupt(thread: &JoinHandle<()>) {
    // SAFETY: the thread has not been joined, because its handle is borrowed here. So its pthread_t is valid.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGNAL) };
}
