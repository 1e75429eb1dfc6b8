//! The basis of a connection or a listener: who asked for it, for what, and whether a grant still allows it.

use crate::{
    authorization::{
        authority::Active,
        identity_name::joined,
        policy::{self, Denial, Operation, SocketSource},
        principal::Principal,
    },
    context::identities_of,
};
use luassl_protocol::{ContextSpec, Role};
use luassl_settings::Grant;
use luassl_tls::Floors;
use std::collections::HashSet;

/// A principal with what it asked for.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) principal: Principal,
    /// The identities as the program named them, relative to its directory. Each name occurs once.
    identities: Vec<String>,
    /// The program's directory, without the parts that text alone resolves. Each of many names is joined to it, on
    /// threads that other connections need.
    directory: Option<String>,
    listener: Option<String>,
    pub(crate) role: Role,
}

impl Standing {
    pub(crate) fn new(
        principal: Principal,
        spec: &ContextSpec,
        listener: Option<String>,
        role: Role,
    ) -> Self {
        let mut identities = identities_of(spec);
        let mut known = HashSet::new();
        identities.retain(|name| known.insert(name.clone()));
        let directory = spec.directory.as_deref().map(|directory| joined(directory, ""));
        Self { principal, identities, directory, listener, role }
    }

    /// Returns the floors that the grants in force demand.
    ///
    /// # Errors
    /// Returns the reason why no grant allows it.
    pub(crate) fn judge(&self, active: &Active) -> Result<Floors, Denial> {
        self.grant(active).map(Floors::from)
    }

    /// Returns the grant in force that allows it.
    ///
    /// # Errors
    /// Returns the reason why no grant allows it.
    pub(crate) fn grant<'a>(&self, active: &'a Active) -> Result<&'a Grant, Denial> {
        let directory = self.directory.as_deref();
        let identities: Vec<_> =
            self.identities.iter().map(|asked| active.identities.resolve(directory, asked)).collect();
        let source = self.listener.as_deref().map_or(SocketSource::OwnSocket, SocketSource::Listener);
        let operation = Operation { identities: &identities, role: Some(self.role), source };
        policy::decide(&active.settings, self.principal.caller(), operation)
    }

    /// Returns the label of the owner, for the log.
    pub(crate) fn label(&self) -> String {
        let identities = match &self.identities[..] {
            [] => "no identity".to_owned(),
            names => format!("identity {:?}", names.join(",")),
        };
        let owner = &self.principal.owner;
        format!("of uid {} on socket {:?} with {identities}", owner.uid, &*owner.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::owner::Owner;

    #[test]
    fn finding_4_a_standing_names_each_identity_once_and_its_directory_in_short() {
        let owner = Owner { socket: "control".into(), uid: 1 };
        let principal = Principal { owner, gid: 1, gids: [].into(), pid: None };
        let directory = format!("/srv{}//app/.", "/x/..".repeat(800));
        let names = ["b", "../b", "a", "b", "/b", "b"].map(str::to_owned).to_vec();
        let spec = ContextSpec {
            directory: Some(directory.clone()),
            identity: Some("a".to_owned()),
            identities: names.clone(),
            ..ContextSpec::default()
        };
        let standing = Standing::new(principal, &spec, None, Role::Server);
        assert_eq!(standing.identities, ["a", "b", "../b", "/b"]);
        let short = standing.directory.unwrap();
        assert_eq!(short, "/srv/app");
        // Positive control: the names stand for the same identities as before.
        for name in &names {
            assert_eq!(joined(&short, name), joined(&directory, name));
        }
        assert_eq!(joined(&short, "../b"), "/srv/b");
    }
}
