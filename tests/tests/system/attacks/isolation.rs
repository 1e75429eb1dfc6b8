//! Under `luassld run` keeper and fronts are where the units put theirs: in an empty root directory, in a network without an
//! interface. A front that was taken over reaches no other service's Unix socket.

use super::sandbox::{with_front, with_front_on_a_kernel_without};
use luassl_tests::daemon::Daemon;
use luassl_tests::{built, kernel, pki};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

/// The socket that the hostile front tries (`connect-path`).
const BYSTANDER: &str = "/tmp/luassl-bystander.sock";
/// What is said where there are no namespaces.
const WARNING: &str = "a compromised front can connect to every Unix socket that its user may connect to";

/// Another service, which everybody may connect to.
struct Bystander(UnixListener);

impl Bystander {
    fn start() -> Self {
        let _ = std::fs::remove_file(BYSTANDER);
        let socket = UnixListener::bind(BYSTANDER).expect("a socket");
        std::fs::set_permissions(BYSTANDER, std::fs::Permissions::from_mode(0o666)).expect("a mode");
        Self(socket)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(BYSTANDER);
    }
}

#[test]
fn finding_24_a_front_reaches_no_unix_socket_of_another_service() {
    let bystander = Bystander::start();
    // Positive control: the same front, by the same call, where it sees what its user sees. And that is said.
    let daemon = with_front_on_a_kernel_without(&[libc::SYS_unshare], "hostile-front-connect-path");
    daemon.expect_log("hostile: connect-path: let through");
    daemon.expect_log(WARNING);
    bystander.0.accept().expect("the front's connection");
    drop(daemon);

    let daemon = with_front("hostile-front-connect-path");
    daemon.expect_log("hostile: connect-path: No such file or directory");
    daemon.expect_log(" ready");
    assert!(!daemon.log().contains(WARNING), "{}", daemon.log());
}

#[test]
fn finding_24_where_there_are_no_namespaces_check_says_so() {
    let check = |missing: &[i64]| {
        let mut check = Command::new(built("bin/luassld"));
        check.args(["check", "--identities"]).arg(pki::keys());
        kernel::without(&mut check, missing);
        let output = check.output().expect("luassld check starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = check(&[libc::SYS_unshare]);
    assert!(said.contains(WARNING) && said.contains("hint: "), "{said}");
    let said = check(&[]);
    assert!(!said.contains(WARNING), "{said}");
}

/// A namespace of a process, as the kernel names it.
fn namespace(pid: u32, kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a process that this one may look into")
}

fn root_of(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/root")).expect("its root directory");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

fn is_isolated(daemon: &Daemon, kinds: &[&str]) {
    for pid in [daemon.front(), daemon.keeper()] {
        for kind in kinds {
            luassl_tests::until(kind, || namespace(pid, kind) != namespace(daemon.pid(), kind));
        }
        let own = if pid == daemon.front() { vec!["keeper.sock".to_owned()] } else { Vec::new() };
        assert_eq!(root_of(pid), own);
    }
    // Positive control: the supervisor is where it was started.
    assert!(root_of(daemon.pid()).len() > 2);
}

/// What a front of an ordinary user's does for its starter.
fn serves_its_starter(daemon: &Daemon) {
    let socket = daemon.socket();
    let failure = luassl_tests::process::as_user(luassl_tests::daemon::STRANGER, move || {
        let mut control = luassl_tests::wire::Control::open(&socket);
        let spec = luassl_protocol::ContextSpec {
            identity: Some("server-p256".into()),
            ..luassl_protocol::ContextSpec::default()
        };
        control.context(spec).err().map(|failure| failure.message)
    });
    assert_eq!(failure, None);
}

mod needs_root {
    use super::*;

    #[test]
    fn finding_24_children_of_root_have_an_empty_root_and_a_network_of_their_own() {
        let daemon = Daemon::start();
        is_isolated(&daemon, &["mnt", "net"]);
        assert_eq!(namespace(daemon.front(), "user"), namespace(daemon.pid(), "user"));
    }

    #[test]
    fn finding_24_children_of_an_ordinary_user_have_them_by_user_namespaces() {
        let daemon = Daemon::without_root();
        is_isolated(&daemon, &["user", "mnt", "net"]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.front())).expect("a process");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
        }
        serves_its_starter(&daemon);
        daemon.kill_keeper();
        daemon.expect_log("keeper serves configuration 1 again");
        serves_its_starter(&daemon);
    }
}
