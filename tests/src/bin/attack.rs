//! `attack WAY PID`: tries to get into another process of the same user, and prints `let in` or the system's answer.

use luassl_tests::memory;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way, pid] = arguments.as_slice() else { return usage() };
    let Ok(pid) = pid.parse() else { return usage() };
    let outcome = match way.as_str() {
        "ptrace" => ptrace(pid),
        "process_vm_readv" => process_vm_readv(pid),
        "pidfd_getfd" => pidfd_getfd(pid),
        "mem" => std::fs::File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).map(drop),
        "environ" => std::fs::read(format!("/proc/{pid}/environ")).map(drop),
        _ => return usage(),
    };
    match outcome {
        Ok(()) => println!("let in"),
        Err(error) => println!("{error}"),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: attack ptrace|process_vm_readv|pidfd_getfd|mem|environ PID");
    ExitCode::from(2)
}

fn ptrace(pid: i32) -> io::Result<()> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these take numbers alone; a tracer that ends lets its tracees go.
    if unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// There is nothing at that address, which the kernel says to those alone who may look.
fn process_vm_readv(pid: i32) -> io::Result<()> {
    match memory::process_vm_readv(pid.cast_unsigned(), &mut [0; 16], 0x1000) {
        Err(error) if error.raw_os_error() != Some(libc::EFAULT) => Err(error),
        _ => Ok(()),
    }
}

fn pidfd_getfd(pid: i32) -> io::Result<()> {
    // SAFETY: these take numbers alone, and give new descriptors that end with the process.
    let taken = unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        libc::syscall(libc::SYS_pidfd_getfd, process, 2, 0)
    };
    if taken < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
