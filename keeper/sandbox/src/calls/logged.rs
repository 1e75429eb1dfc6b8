//! A filter whose refusals the kernel logs (seccomp(2), SECCOMP_FILTER_FLAG_LOG; Linux 4.14): seccompiler cannot do this.

use seccompiler::BpfProgram;
use std::io;

/// Installs the filter for this thread and those that it starts.
///
/// # Errors
/// The kernel's; ENOSYS or EINVAL where it has no seccomp filters.
pub(super) fn apply(program: &BpfProgram) -> io::Result<()> {
    // seccomp(2) requires this of unprivileged processes.
    rustix::thread::set_no_new_privs(true)?;
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the kernel copies the program out of memory that outlives the call, and writes nothing; seccompiler's
    // sock_filter is the kernel's, field by field.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            &raw const filter,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
