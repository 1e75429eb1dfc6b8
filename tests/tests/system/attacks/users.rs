//! Started by root, keeper and fronts are not root, and none of them is another.

use crate::api::{accepted, serve};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::process::Process;
use luassl_tests::{peer, repository, scratch};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A field of /proc/PID/status.
fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
}

/// The one user that all four ids of a process are.
fn user(pid: u32) -> u32 {
    let ids: BTreeSet<_> = status(pid, "Uid").split_whitespace().map(str::to_owned).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids.first().and_then(|id| id.parse().ok()).expect("a number")
}

fn has_no_rights(pid: u32) {
    assert_ne!(user(pid), 0);
    assert_eq!(status(pid, "Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
}

fn handshake(daemon: &Daemon) {
    let mut agent = Agent::start(daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap('keys/server.pem')");
    let _tls = accepted(&mut agent, port);
}

mod needs_root {
    use super::*;

    #[test]
    fn children_of_root_are_users_of_their_own_without_rights() {
        let daemon = Daemon::start();
        let children = [daemon.front(), daemon.keeper()];
        children.iter().for_each(|pid| has_no_rights(*pid));
        assert_ne!(user(children[0]), user(children[1]));
        handshake(&daemon);
        // The supervisor stays: it opens the files.
        assert_eq!(user(daemon.pid()), 0);
    }

    /// As systemd looks whether it may give a number to a unit with DynamicUser=.
    fn systemd_may_take(lock: &std::path::Path) -> bool {
        let Ok(file) = std::fs::File::options().read(true).write(true).open(lock) else { return true };
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    #[test]
    fn finding_21_systemd_gives_the_numbers_of_children_to_nobody_else() {
        let daemon = Daemon::start();
        let numbers = [user(daemon.front()), user(daemon.keeper())];
        if numbers.iter().any(|number| !(61_184..=65_519).contains(number)) {
            eprintln!("not tried: this machine has users `luassl` and `luassl-keeper`");
            return;
        }
        let locks =
            numbers.map(|number| std::path::Path::new("/run/systemd/dynamic-uid").join(number.to_string()));
        assert!(locks.iter().all(|lock| lock.exists() && !systemd_may_take(lock)), "{locks:?}");
        // Positive control: a lock that nobody holds. (These may be another test's, once this daemon has ended.)
        let directory = scratch();
        let free = directory.path().join("61184");
        std::fs::write(&free, "left\n").expect("written");
        assert!(systemd_may_take(&free));
    }

    #[test]
    fn they_stay_who_they_are_and_serve_after_a_restart_and_a_reload() {
        let daemon = Daemon::start();
        let users = [user(daemon.front()), user(daemon.keeper())];
        daemon.kill_keeper();
        daemon.kill_front();
        daemon.signal(Signal::HUP);
        daemon.expect_log("keeper and fronts serve configuration 2");
        assert_eq!([user(daemon.front()), user(daemon.keeper())], users);
        handshake(&daemon);
    }

    #[test]
    fn a_directory_that_is_closed_to_them_keeps_them_from_nothing() {
        let daemon = Daemon::start();
        std::fs::set_permissions(daemon.directory(), std::fs::Permissions::from_mode(0o700)).expect("a mode");
        daemon.kill_front();
        handshake(&daemon);
    }

    #[test]
    fn the_configuration_names_their_users() {
        let daemon = Daemon::with_config(
            "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[keeper]\nuser = 54323\n\
             [front.default]\nuser = 54324\n[[grant]]\nuser = UID\nidentities = ['*']\n",
        );
        assert_eq!([user(daemon.keeper()), user(daemon.front())], [54_323, 54_324]);
        let keeper = std::fs::metadata(daemon.directory().join("luassl.sock.keeper")).expect("a socket");
        assert_eq!((keeper.uid(), keeper.permissions().mode() & 0o777), (54_324, 0o600));
        handshake(&daemon);
    }

    #[test]
    fn tenants_fronts_are_different_users() {
        let daemon = Daemon::with_config(
            "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n\
             [socket.shop]\npath = 'DIR/shop.sock'\n[front.default]\n[front.shop]\nsockets = ['shop']\n\
             [[grant]]\nuser = UID\nidentities = ['*']\n[[grant]]\nsocket = 'shop'\nidentities = ['*']\n",
        );
        let users: BTreeSet<u32> =
            luassl_tests::process::children(daemon.pid()).into_iter().map(user).collect();
        assert_eq!(users.len(), 3, "{users:?}");
        assert!(!users.contains(&0));
        let mut command = LUA54.command_at(&daemon.directory().join("shop.sock"));
        let mut tenant = Agent::of(Process::start(command.arg(repository().join("tests/lua/agent.lua"))));
        tenant.run("ssl = require 'luassl'");
        let port = serve(&mut tenant, "ssl.wrap('server')");
        tenant.send("c = assert(s:accept())");
        let _tls = peer::connect(port);
        tenant.answer();
    }

    #[test]
    fn keeper_and_front_as_one_user_are_refused() {
        let directory = scratch();
        let config = directory.path().join("luassl.toml");
        std::fs::write(&config, "[keeper]\nuser = 54323\n[front.default]\nuser = 54323\n").expect("written");
        let mut command = std::process::Command::new(luassl_tests::built("bin/luassld"));
        let socket = directory.path().join("luassl.sock");
        let output = command.args(["run", "--config"]).arg(&config).arg("--socket").arg(socket).output();
        let output = output.expect("luassld starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("its own `user`"), "{said}");
    }
}
