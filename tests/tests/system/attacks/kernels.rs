//! Kernels that lack a protection: that is said by its name, and what is left holds.

use super::sandbox::{ATTEMPTS, with_front_on_a_kernel_without};
use crate::api::{accepted, serve};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::kernel;
use luassl_tests::lua::LUA54;
use luassl_tests::{built, pki};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

const LANDLOCK: [i64; 3] =
    [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];

fn serves(daemon: &Daemon) {
    let mut agent = Agent::start(daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('keys/server.pem')");
    let _tls = accepted(&mut agent, port);
}

fn count(daemon: &Daemon, text: &str) -> usize {
    daemon.log().matches(text).count()
}

#[test]
fn without_landlock_keeper_and_front_say_so_and_serve() {
    let daemon = Daemon::on_a_kernel_without(&LANDLOCK);
    luassl_tests::until("both to say it", || count(&daemon, "the kernel has no Landlock") == 2);
    serves(&daemon);
}

/// As on every kernel, whatever it has: seccomp alone keeps them in.
#[test]
fn without_landlock_a_front_is_refused_whatever_it_tries() {
    for attempt in ATTEMPTS {
        let daemon = with_front_on_a_kernel_without(&LANDLOCK, &format!("hostile-front-{attempt}"));
        daemon.expect_log(&format!("hostile: {attempt}: Operation not permitted"));
    }
}

#[test]
fn without_landlock_a_keeper_that_opens_a_file_is_refused_and_one_that_makes_one_ends() {
    let daemon = with_front_on_a_kernel_without(&LANDLOCK, "hostile-keeper-open");
    daemon.expect_log("hostile: open: Err(Os { code: 1, kind: PermissionDenied");
    let daemon = with_front_on_a_kernel_without(&LANDLOCK, "hostile-keeper-mkdir");
    daemon.expect_log("keeper ended: signal: 31 (SIGSYS)");
}

/// The version of Landlock that has scopes of abstract sockets (Linux 6.12).
const WITH_SCOPES: i64 = 6;

/// Seccomp lets a front connect, since it does so to its keeper: its own network refuses this, and where it has none,
/// Landlock.
#[test]
fn a_front_reaches_no_abstract_socket_of_another_process_where_landlock_can_refuse_it() {
    let address = SocketAddr::from_abstract_name("luassl-bystander").expect("an address");
    let _bystander = UnixListener::bind_addr(&address).expect("a socket that anybody may connect to");
    let neither = [&LANDLOCK[..], &[libc::SYS_unshare]].concat();
    let daemon = with_front_on_a_kernel_without(&neither, "hostile-front-connect-abstract");
    daemon.expect_log("hostile: connect-abstract: let through");
    let daemon = with_front_on_a_kernel_without(&LANDLOCK, "hostile-front-connect-abstract");
    daemon.expect_log("hostile: connect-abstract: Connection refused");
    let abi = kernel::landlock_abi();
    if abi < WITH_SCOPES {
        eprintln!("not tried: this kernel has version {abi} of Landlock, and no scopes (Linux 6.12)");
        return;
    }
    let daemon = with_front_on_a_kernel_without(&[libc::SYS_unshare], "hostile-front-connect-abstract");
    daemon.expect_log("hostile: connect-abstract: Operation not permitted");
    daemon.expect_log(" ready");
}

#[test]
fn with_landlock_nobody_says_that_there_is_none() {
    let abi = kernel::landlock_abi();
    let daemon = Daemon::start();
    serves(&daemon);
    if abi == 0 {
        eprintln!("not tried: this kernel has no Landlock (Linux 5.13, lsm=landlock)");
        assert_eq!(count(&daemon, "the kernel has no Landlock"), 2);
    } else {
        eprintln!("Landlock's version here is {abi}");
        assert_eq!(count(&daemon, "Landlock"), 0);
    }
}

/// There is nothing to fall back on: what cannot be restricted does not serve.
#[test]
fn without_seccomp_neither_serves_and_that_is_said() {
    let scratch = luassl_tests::scratch();
    let mut command = Command::new(built("bin/luassld"));
    command.args(["run", "--identities"]).arg(pki::keys());
    command.arg("--socket").arg(scratch.path().join("luassl.sock"));
    kernel::without(&mut command, &[libc::SYS_seccomp]);
    let process = luassl_tests::process::Process::start(&mut command);
    process.expect_error("system calls cannot be restricted");
    process.signal(rustix::process::Signal::TERM);
}

#[test]
fn without_secret_memory_the_log_and_the_check_say_so_and_keys_are_locked() {
    let missing = [libc::SYS_memfd_secret];
    let daemon = Daemon::on_a_kernel_without(&missing);
    daemon.expect_log("the kernel has no memfd_secret");
    serves(&daemon);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.keeper())).expect("a process");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("a field").trim();
    assert_ne!(locked, "0 kB");

    let mut check = Command::new(built("bin/luassld"));
    check.args(["check", "--identities"]).arg(pki::keys());
    kernel::without(&mut check, &missing);
    let output = check.output().expect("luassld check starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the kernel has no memfd_secret"), "{said}");
}
