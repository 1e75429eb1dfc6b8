//! Kernels that lack something, as far as a process can tell: system calls that fail with ENOSYS.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Whether this machine's kernel has `memfd_secret` (Linux 5.14, `secretmem.enable=1`).
#[must_use]
pub fn has_secret_memory() -> bool {
    // SAFETY: takes flags alone.
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    // SAFETY: the descriptor of the line before, which nobody else has.
    descriptor >= 0 && unsafe { libc::syscall(libc::SYS_close, descriptor) == 0 }
}

/// The version of Landlock's rules that this machine's kernel knows (Linux 5.13 has the first), 0 without Landlock.
#[must_use]
pub fn landlock_abi() -> i64 {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with that flag and no rules it gives a number and does nothing.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, VERSION) }.max(0)
}

/// Starts the command, and all that it starts, on a kernel without these system calls.
///
/// # Panics
/// When no filter can be made of them.
pub fn without(command: &mut Command, calls: &[i64]) {
    let filter = filter(calls).expect("a filter");
    let apply = move || apply_filter(&filter).map_err(std::io::Error::other);
    // SAFETY: makes two system calls, and allocates only where they fail.
    unsafe { command.pre_exec(apply) };
}

fn filter(calls: &[i64]) -> Result<BpfProgram, seccompiler::BackendError> {
    let calls = calls.iter().map(|call| (*call, Vec::new())).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(calls, SeccompAction::Allow, missing, architecture)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_sees_a_kernel_without_the_call() {
        let run = |calls: &[i64]| {
            let mut command = Command::new("mkdir");
            without(&mut command, calls);
            command.arg(crate::scratch().path().join("made")).output().expect("mkdir starts")
        };
        let said = run(&[libc::SYS_mkdir, libc::SYS_mkdirat]);
        assert!(String::from_utf8_lossy(&said.stderr).contains("Function not implemented"));
        let directory = crate::scratch();
        let mut command = Command::new("mkdir");
        without(&mut command, &[]);
        assert!(command.arg(directory.path().join("made")).status().expect("mkdir starts").success());
    }
}
