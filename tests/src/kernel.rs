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

/// Starts the command with a filter that refuses a call which it does not miss, and has that logged.
fn without_and_logged(command: &mut Command) {
    let filter = filter(&[libc::SYS_getppid]).unwrap_or_default();
    let apply = move || {
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).unwrap_or_default(),
            filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
        };
        // SAFETY: the kernel copies the program out of memory that outlives the call; getppid takes nothing.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let flags = libc::SECCOMP_FILTER_FLAG_LOG;
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program);
            libc::syscall(libc::SYS_getppid);
        }
        Ok(())
    };
    // SAFETY: makes system calls alone.
    unsafe { command.pre_exec(apply) };
}

fn filter(calls: &[i64]) -> Result<BpfProgram, seccompiler::BackendError> {
    let calls = calls.iter().map(|call| (*call, Vec::new())).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(calls, SeccompAction::Allow, missing, architecture)?.try_into()
}

/// The system calls of the threads of process `pid` that seccomp refused, from the kernel's log; none where that has no
/// such lines, which is said.
///
/// # Panics
/// When the process has no threads.
#[must_use]
pub fn refused_calls(pid: u32) -> Option<Vec<i64>> {
    let Some(log) = kernel_log() else {
        eprintln!(
            "not tried: the kernel's log cannot be read, or a daemon takes its audit lines away (auditd)"
        );
        return None;
    };
    let threads: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("its threads")
        .flatten()
        .map(|thread| format!(" pid={} ", thread.file_name().to_string_lossy()))
        .collect();
    let is_its = |line: &&str| {
        line.contains("type=1326 ")
            && line.contains("luassld")
            && threads.iter().any(|thread| line.contains(thread))
    };
    let call = |line: &str| line.split_once(" syscall=")?.1.split(' ').next()?.parse().ok();
    Some(log.lines().filter(is_its).filter_map(call).collect())
}

/// What the kernel's log holds; none unless a refused call turns up in it. The log is written in order, some time after
/// the calls, and the kernel drops lines of a flood.
fn kernel_log() -> Option<String> {
    const PROBES: usize = 40;
    for _ in 0..PROBES {
        let mut probe = Command::new("true");
        without_and_logged(&mut probe);
        let mut child = probe.spawn().ok()?;
        let mark = format!(" pid={} ", child.id());
        child.wait().ok()?;
        std::thread::sleep(std::time::Duration::from_millis(250));
        let text = read_log()?;
        if text.lines().any(|line| line.contains("type=1326 ") && line.contains(&mark)) {
            return Some(text);
        }
    }
    None
}

/// Every line that is there, without waiting for more.
fn read_log() -> Option<String> {
    use std::io::{ErrorKind, Read};
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::File::options();
    let mut log = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let (mut text, mut record) = (String::new(), [0; 8192]);
    loop {
        match log.read(&mut record) {
            Ok(count) => text.push_str(&String::from_utf8_lossy(&record[..count])),
            // A record that was overwritten meanwhile.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(_) => return Some(text),
        }
    }
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
