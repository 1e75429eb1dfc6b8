//! Closes descriptors that a child inherited by mistake. This is the only unsafe step of starting a child.

use std::io;

/// Closes every descriptor except the standard three. Must be called before this process opens a descriptor.
///
/// # Errors
/// Returns an error if the kernel refuses (close_range(2) exists since Linux 5.9).
pub(crate) fn close_all() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: `launch` calls this function first, on the only thread. No object in this process owns a
    // descriptor above standard error yet, so no owned descriptor is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0 as libc::c_uint) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
