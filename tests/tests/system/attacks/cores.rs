//! A process that is killed for a fault leaves no core.

use luassl_tests::daemon::Daemon;
use luassl_tests::process::signal_pid;
use luassl_tests::scratch;
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Kills a child of the supervisor's, and gives what the supervisor says about its end.
fn end_of(daemon: &Daemon, pid: u32, signal: Signal) -> String {
    let before = daemon.log().len();
    luassl_tests::until("the supervisor to see it", || {
        // Rust's handler lets the first SIGSEGV pass, so that the fault comes again without it.
        signal_pid(pid, signal);
        daemon.log()[before..].contains(" ended: ")
    });
    let log = daemon.log();
    log[before..].lines().find(|line| line.contains(" ended: ")).unwrap_or_default().to_owned()
}

fn leaves_no_core(child: impl Fn(&Daemon) -> u32) {
    for (signal, name) in [(Signal::SEGV, "SIGSEGV"), (Signal::ABORT, "SIGABRT")] {
        let daemon = Daemon::with_cores();
        let end = end_of(&daemon, child(&daemon), signal);
        assert!(end.contains(name) && !end.contains("core dumped"), "{end}");
    }
}

#[test]
fn a_front_that_crashes_leaves_no_core() {
    leaves_no_core(Daemon::front);
}

#[test]
fn a_keeper_that_crashes_leaves_no_core() {
    leaves_no_core(Daemon::keeper);
}

/// Where not even this leaves one, the two above prove nothing.
#[test]
fn an_ordinary_process_leaves_one() {
    let directory = scratch();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited && exec sh -c 'kill -SEGV $$'"]).current_dir(&directory);
    let status = command.status().expect("a shell");
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.trim().is_empty() {
        eprintln!("not tried: kernel.core_pattern is empty, so that nothing leaves a core");
        return;
    }
    assert!(status.core_dumped(), "{status}; kernel.core_pattern is {pattern}");
}
