//! Finding 9: a tenant that owns a directory of identities makes links to another's key, or copies it: it gets no
//! identity of that key.

use luassl_tests::agent::Agent;
use luassl_tests::daemon::{Daemon, STRANGER};
use luassl_tests::lua::LUA54;
use luassl_tests::pki::{self, Leaf, Pair};
use luassl_tests::scratch;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

mod needs_root {
    use super::*;

    fn pair() -> Pair {
        pki::issue(&Leaf::default(), Some(&pki::issuer("root")))
    }

    fn own(path: &Path, user: u32) {
        lchown(path, Some(user), Some(user)).expect("root gives files away");
    }

    fn secret(path: &Path, contents: &[u8], owner: u32) {
        std::fs::write(path, contents).expect("a file");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("a mode");
        own(path, owner);
    }

    const CONFIG: &str = "[control]\nsocket = 'SOCKET'\n[identity.victim]\nkey = 'DIR/root/victim.pem'\n\
                          [identities]\ndirectory = 'DIR/tenant'\n\
                          [[grant]]\nuser = UID\nidentities = ['*']\n";

    /// `tenant/` is the tenant's; beside it lies what root has. `attack` gets the daemon's directory.
    fn daemon(config: &str, attack: impl FnOnce(&Path)) -> Daemon {
        let scratch = scratch();
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
        let at = |name: &str| scratch.path().join(name);
        for (directory, owner) in [("root", 0), ("tenant", STRANGER)] {
            std::fs::create_dir(at(directory)).expect("a directory");
            own(&at(directory), owner);
        }
        secret(&at("root/victim.pem"), &pair().pem(), 0);
        secret(&at("root/second.pem"), &pair().pem(), 0);
        secret(&at("root/third.pem"), &pair().pem(), 0);
        secret(&at("tenant/its-own.pem"), &pair().pem(), STRANGER);
        attack(scratch.path());
        Daemon::with_config_in(config, scratch)
    }

    fn has(agent: &mut Agent, identity: &str) -> bool {
        agent.run(&format!("local s = ssl.wrap('{identity}') return s and s:bind(0) and true")) == "true"
    }

    #[test]
    fn finding_9_a_tenants_links_give_it_no_identity_of_anothers_key() {
        let daemon = daemon(CONFIG, |at| {
            let link = |target: &str, name: &str, owner: u32| {
                symlink(at.join(target), at.join(name)).expect("a link");
                own(&at.join(name), owner);
            };
            link("root/second.pem", "tenant/stolen.pem", STRANGER);
            link("root/third.pem", "tenant/given.pem", 0);
            // As where the sysctl fs.protected_hardlinks is 0.
            std::fs::hard_link(at.join("root/second.pem"), at.join("tenant/linked.pem")).expect("a link");
            let copy = std::fs::read(at.join("root/victim.pem")).expect("root reads it");
            secret(&at.join("tenant/copied.pem"), &copy, STRANGER);
        });
        for said in [
            "the symbolic link ",
            "has other names (hard links)",
            "identity `copied` has the same key as identity `victim`",
        ] {
            daemon.expect_log(said);
        }
        let mut agent = Agent::start(&daemon, LUA54);
        for identity in ["stolen", "linked", "copied"] {
            assert!(!has(&mut agent, identity), "{identity}");
        }
        // Positive control: root's link, the tenant's own file, and what is declared.
        for identity in ["given", "its-own", "victim"] {
            assert!(has(&mut agent, identity), "{identity}: {}", daemon.log());
        }
    }

    /// Positive control: where the configuration says so, both have the key.
    #[test]
    fn finding_9_a_key_that_is_declared_as_shared_has_two_identities() {
        let table = |name: &str| format!("[identity.{name}]\nkey = 'DIR/root/{name}.pem'\nSHARED");
        let config = format!(
            "[control]\nsocket = 'SOCKET'\n{}{}[[grant]]\nuser = UID\nidentities = ['*']\n",
            table("victim"),
            table("copy")
        );
        let copy = |at: &Path| {
            std::fs::copy(at.join("root/victim.pem"), at.join("root/copy.pem")).expect("a copy");
        };
        for (shared, expected) in [("", false), ("shared_key = true\n", true)] {
            let daemon = daemon(&config.replace("SHARED", shared), copy);
            let mut agent = Agent::start(&daemon, LUA54);
            for identity in ["victim", "copy"] {
                assert_eq!(has(&mut agent, identity), expected, "{identity}: {}", daemon.log());
            }
        }
    }
}
