//! What somebody who has taken a process over would try next, for the tests of the sandbox.
//!
//! Arguments are such that an unrestricted process is never refused: what comes back then is success, or an error of the
//! call's own making.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io;
use std::ptr;

/// Ways out of a sandbox, by name. Those that only root could go are not among them.
pub const ATTEMPTS: [&str; 15] = [
    "open",
    "mkdir",
    "socket-inet",
    "socket-inet6",
    "socket-netlink",
    "execve",
    "fork",
    "ptrace",
    "process_vm_readv",
    "pidfd_open",
    "kill",
    "unshare",
    "memfd_create",
    "executable-memory",
    "write-to-code",
];

/// Connects to [`ABSTRACT`]: the attempt that Landlock alone refuses.
pub const CONNECT_ABSTRACT: &str = "connect-abstract";

/// The abstract Unix socket of another process.
pub const ABSTRACT: &[u8] = b"luassl-bystander";

/// Connects to [`PATH`]: the attempt that the empty root directory alone refuses.
pub const CONNECT_PATH: &str = "connect-path";

/// The Unix socket of another service, which every user may connect to.
pub const PATH: &str = "/tmp/luassl-bystander.sock";

/// Tries one; the error is the kernel's.
///
/// # Errors
/// The kernel's; EINVAL for a name that is neither in [`ATTEMPTS`] nor [`CONNECT_ABSTRACT`] nor [`CONNECT_PATH`].
pub fn attempt(name: &str) -> io::Result<()> {
    let socket = |family| call(libc::SYS_socket, [family, libc::SOCK_STREAM.into(), 0, 0]);
    let file = |path: &'static std::ffi::CStr| path.as_ptr() as i64;
    match name {
        "open" => call(libc::SYS_openat, [libc::AT_FDCWD.into(), file(c"/etc/passwd"), 0, 0]),
        "mkdir" => call(libc::SYS_mkdirat, [libc::AT_FDCWD.into(), file(c"/no/such"), 0o700, 0]),
        CONNECT_ABSTRACT => connect_to(SocketAddrUnix::new_abstract_name(ABSTRACT)),
        CONNECT_PATH => connect_to(SocketAddrUnix::new(PATH)),
        "socket-inet" => socket(libc::AF_INET.into()),
        "socket-inet6" => socket(libc::AF_INET6.into()),
        "socket-netlink" => call(libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), 0, 0]),
        "execve" => call(libc::SYS_execve, [file(c"/no/such/program"), 0, 0, 0]),
        "fork" => fork(),
        "ptrace" => call(libc::SYS_ptrace, [libc::PTRACE_PEEKDATA.into(), own(), 0, 0]),
        "process_vm_readv" => call(libc::SYS_process_vm_readv, [own(), 0, 0, 0]),
        "pidfd_open" => call(libc::SYS_pidfd_open, [own(), 0, 0, 0]),
        "kill" => call(libc::SYS_kill, [own(), 0, 0, 0]),
        "unshare" => call(libc::SYS_unshare, [libc::CLONE_FILES.into(), 0, 0, 0]),
        "memfd_create" => call(libc::SYS_memfd_create, [file(c"hostile"), 0, 0, 0]),
        "executable-memory" => map(libc::PROT_READ | libc::PROT_EXEC).map(drop),
        "write-to-code" => {
            let page = map(libc::PROT_READ | libc::PROT_WRITE)?;
            let protection = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC).into();
            call(libc::SYS_mprotect, [page as i64, 4096, protection, 0])
        }
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

fn own() -> i64 {
    rustix::process::getpid().as_raw_nonzero().get().into()
}

fn checked(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn call(number: i64, [a, b, c, d]: [i64; 4]) -> io::Result<()> {
    // SAFETY: `attempt` gives numbers and static paths, and none of its calls writes to this process's memory.
    checked(unsafe { libc::syscall(number, a, b, c, d) }).map(drop)
}

fn connect_to(address: Result<SocketAddrUnix, Errno>) -> io::Result<()> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok(connect(&socket, &address?)?)
}

fn fork() -> io::Result<()> {
    // SAFETY: the child ends at once, and touches nothing before.
    let child = checked(unsafe { libc::fork() }.into())?;
    if child == 0 {
        // SAFETY: ends the child, without anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: waits for the child; it says nothing that is kept.
    unsafe { libc::waitpid(child as i32, ptr::null_mut(), 0) };
    Ok(())
}

fn map(protection: i32) -> io::Result<*mut libc::c_void> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new page at a place of the kernel's choice; nothing is run or read there.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The control of every test that sees an attempt refused.
    #[test]
    fn an_unrestricted_process_is_refused_nothing() {
        for name in ATTEMPTS {
            let refused = attempt(name).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            assert!(!refused, "{name}");
        }
    }
}
