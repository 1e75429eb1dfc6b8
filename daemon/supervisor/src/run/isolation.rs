//! The isolation of the children from the file system and the network, as the units provide it for theirs. An
//! attacker who takes over a child reaches no Unix socket except the keeper's.

use crate::config::{Config, Finding};
pub(super) use luassl_sandbox::isolation::Isolation;
use luassl_sandbox::isolation::probe;
use luassl_settings::Grantee;

/// The isolation of the children; `None` for children with the access of their user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Isolations {
    /// That of the keeper.
    pub keeper: Option<Isolation>,
    /// That of every front.
    pub fronts: Option<Isolation>,
}

impl Isolations {
    /// Tests which isolation this system provides for the children, and returns it, with a warning if it is
    /// incomplete. Must be called before there are threads.
    #[must_use]
    pub fn choose(config: &Config) -> (Self, Option<Finding>) {
        let root = rustix::process::geteuid().is_root();
        let kind = if root { Isolation::Root } else { Isolation::UserNamespace };
        if let Err(errno) = probe(kind) {
            let hint = match kind {
                Isolation::Root => {
                    "allow luassld CAP_SYS_ADMIN and mount(2), or deploy with the systemd units"
                }
                Isolation::UserNamespace => {
                    "allow user namespaces (user.max_user_namespaces, AppArmor), or deploy with the systemd units"
                }
            };
            let finding = seen(&format!("the system does not allow a separate root directory: {errno}"));
            return (Self::default(), Some(finding.hint(hint)));
        }
        let keeper = Some(kind);
        if root || !needs_others(config) {
            return (Self { keeper, fronts: Some(kind) }, None);
        }
        let finding =
            seen("in a user namespace it could not tell apart the users and groups that grants name")
                .hint("start luassld as root, or deploy with the systemd units");
        (Self { keeper, fronts: None }, Some(finding))
    }
}

fn seen(cause: &str) -> Finding {
    let effect = "under `luassld run` a compromised front can connect to every Unix socket that its user may connect to";
    Finding::warning(None, format!("{effect}: {cause}"))
}

/// Returns whether a grant is for another user than the one that starts luassld. In a user namespace, every
/// other user and group appears as 65534. This also applies to users who connect through a named socket.
pub(super) fn needs_others(config: &Config) -> bool {
    let own = rustix::process::geteuid().as_raw();
    config.grants.iter().any(|grant| grant.grantee != Grantee::User(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Request, load_text};
    use std::path::Path;

    fn config(text: &str) -> Config {
        load_text(Path::new("/x.toml"), text, &Request::default()).config.expect("a good configuration")
    }

    #[test]
    fn finding_24_a_user_namespace_is_for_fronts_that_serve_who_starts_them_alone() {
        let own = rustix::process::geteuid().as_raw();
        assert!(!needs_others(&config("")));
        assert!(!needs_others(&config(&format!("[[grant]]\nuser = {own}\nidentities = []"))));
        for other in ["user = 65534", "group = 4711", "socket = 'a'"] {
            let text = format!("[socket.a]\npath='/a'\n[[grant]]\n{other}\nidentities = []");
            assert!(needs_others(&config(&text)), "{other}");
        }
    }
}
