//! Processes of the same user look into front and keeper.

use luassl_tests::built;
use luassl_tests::daemon::{Daemon, STRANGER};
use luassl_tests::process::Process;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user that runs `Daemon::without_root`.
fn as_its_user(command: &mut Command) -> &mut Command {
    if rustix::process::geteuid().is_root() { command.uid(STRANGER).gid(STRANGER) } else { command }
}

/// The attacker's program, where every user can start it.
fn attacker(directory: &Path) -> PathBuf {
    let program = directory.join("attack");
    luassl_tests::copy_file(built("test/attack"), &program);
    program
}

fn attack(program: &Path, way: &str, pid: u32) -> String {
    let mut command = Command::new(program);
    let output = as_its_user(command.arg(way).arg(pid.to_string())).output().expect("the attacker starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// `way` gets into neither front nor keeper, and into an ordinary process of the same user.
fn is_refused(way: &str, answer: &str) {
    let daemon = Daemon::without_root();
    let program = attacker(daemon.directory());
    for pid in [daemon.front(), daemon.keeper()] {
        assert_eq!(attack(&program, way, pid), answer);
    }
    let other = Process::start(as_its_user(Command::new("sleep").arg("1000")));
    assert_eq!(attack(&program, way, other.pid()), "let in");
}

const EPERM: &str = "Operation not permitted (os error 1)";
const EACCES: &str = "Permission denied (os error 13)";

#[test]
fn the_same_user_cannot_trace() {
    is_refused("ptrace", EPERM);
}

#[test]
fn the_same_user_cannot_read_memory() {
    is_refused("process_vm_readv", EPERM);
}

#[test]
fn the_same_user_cannot_open_the_memory_as_a_file() {
    is_refused("mem", EACCES);
}

#[test]
fn the_same_user_cannot_take_descriptors() {
    is_refused("pidfd_getfd", EPERM);
}

#[test]
fn the_same_user_cannot_read_the_environment() {
    is_refused("environ", EACCES);
}
