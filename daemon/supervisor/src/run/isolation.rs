//! How the children leave the file system and the network, as the units have it for theirs: so that whoever takes one over
//! reaches no Unix socket but the keeper's.

use crate::config::{Config, Finding};
pub(super) use luassl_sandbox::isolation::Isolation;
use luassl_sandbox::isolation::probe;
use luassl_settings::Grantee;

/// The children's; none for those that see what their user sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Isolations {
    /// The keeper's.
    pub keeper: Option<Isolation>,
    /// Every front's.
    pub fronts: Option<Isolation>,
}

impl Isolations {
    /// What this system lets the children have, tried out, and a warning where that is not all. To be called before there
    /// are threads.
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

/// Whether a grant is for somebody else than who starts luassld. A user namespace shows every other user as 65534, and
/// every other group, and so also those who come in by a named socket.
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
