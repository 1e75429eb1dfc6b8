//! The units, the sample configuration, and `luasslctl` towards a keeper whose admin socket listens, as under systemd.

mod common;

use common::{luassld, pair, shell};
use luassl_daemon::supervisor::launch::{self, Program};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

fn systemd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

fn units() -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(systemd()).expect("systemd/").map(|entry| entry.expect("an entry").path());
    let is_unit = |path: &PathBuf| {
        path.extension().is_some_and(|kind| kind == "service" || kind == "socket" || kind == "path")
    };
    entries.filter(is_unit).collect()
}

#[test]
fn the_units_are_sound() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = luassld();
    let programs = format!("{}/", program.parent().expect("a directory").display());
    let mut copies = Vec::new();
    for unit in units() {
        let copy = directory.path().join(unit.file_name().expect("a name"));
        let text = std::fs::read_to_string(&unit).expect("a unit").replace("/usr/bin/", &programs);
        std::fs::write(&copy, text).expect("written");
        copies.push(copy);
    }
    assert!(copies.len() >= 8, "{copies:?}");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--recursive-errors=no"])
        .args(&copies)
        .output()
        .expect("systemd-analyze, of Debian's package systemd");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_sockets_have_the_names_that_their_services_look_for() {
    let named = |unit: &str| {
        let text = std::fs::read_to_string(systemd().join(unit)).expect("a unit");
        let line = text.lines().find_map(|line| line.strip_prefix("FileDescriptorName=")).map(str::to_owned);
        line.expect("a name")
    };
    let expected = [
        ("luassl-keeper-admin.socket", "admin"),
        ("luassl-keeper.socket", "front.default"),
        ("luassld-admin.socket", "admin"),
        ("luassld.socket", "control"),
        ("luassl-https.socket", "listener.https"),
    ];
    for (unit, name) in expected {
        assert_eq!(named(unit), name, "{unit}");
    }
}

#[test]
fn the_sample_configuration_is_clean() {
    let sample = systemd().join("luassl.toml");
    let output = Command::new(luassld()).arg("check").arg("--config").arg(sample).output().expect("luassld");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 identities, 0 errors, 0 warnings\n");
    assert_eq!(output.status.code(), Some(0));
}

/// The examples that the sample has behind a single `#` are good, too, as far as their names and types go.
#[test]
fn the_examples_in_the_sample_configuration_are_good() {
    let sample = std::fs::read_to_string(systemd().join("luassl.toml")).expect("the sample");
    let example = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let mut text: String = sample
        .lines()
        .map(|line| if example(line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    // What depends on the machine: its users, its directories.
    for (here, anywhere) in [
        ("\"www-data\"", "\"root\""),
        ("\"tenant\"", "\"root\""),
        ("/etc/letsencrypt/live", "/var/empty-luassl"),
    ] {
        text = text.replace(here, anywhere);
    }
    let directory = tempfile::tempdir().expect("a directory");
    text = text.replace("/var/empty-luassl", &directory.path().display().to_string());
    let loaded = luassl_daemon::config::load_text(Path::new("luassl.toml"), &text, &Default::default());
    assert!(loaded.config.is_some(), "{:?}\n{text}", loaded.findings);
}

struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listening(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("bound");
    listen(&socket, 8).expect("listening");
    socket
}

#[test]
fn luasslctl_pushes_keys_to_a_keeper_that_listens() {
    let directory = tempfile::tempdir().expect("a directory");
    shell(directory.path(), &pair("a", 100));
    std::fs::write(
        directory.path().join("luassl.toml"),
        "[identity.a]\nkey='a.key'\ncertificate='a.crt'\n[identity.b]\nkey='b.key'\n",
    )
    .expect("written");
    let admin = directory.path().join("admin");
    let (socket, front) = (listening(&admin), listening(&directory.path().join("front")));
    let program = Program { file: luassld().with_file_name("luassl-keeper"), arguments: Vec::new() };
    let sockets = [("admin".to_owned(), socket.as_fd()), ("front.default".to_owned(), front.as_fd())];
    let keeper =
        launch::command(&luassld(), &program, &sockets).expect("a command").spawn().expect("a keeper");
    let _keeper = Keeper(keeper);
    let push = || {
        Command::new(env!("CARGO_BIN_EXE_luasslctl"))
            .args(["push", "--to", "keeper", "--config", "luassl.toml", "--admin", "admin"])
            .current_dir(directory.path())
            .output()
            .expect("luasslctl runs")
    };
    for _ in 0..2 {
        let output = push();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "everything was answered: {said}");
        assert!(said.starts_with("error: luassl.toml:5: identity `b`: key "), "{said}");
        assert_eq!(said.lines().count(), 2, "only b is at fault: {said}");
    }
}
