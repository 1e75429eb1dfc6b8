//! The one unsafe step of becoming a child: closing what was inherited by mistake.

use std::io;

/// Closes every descriptor but the standard three. To be called before anything in this process has opened one.
///
/// # Errors
/// Where the kernel refuses (close_range(2) is there since Linux 5.9).
pub(crate) fn close_all() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: `launch` calls this first of all, on the only thread: nothing in this process owns a descriptor above
    // standard error yet, so none is closed under its owner.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0 as libc::c_uint) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
