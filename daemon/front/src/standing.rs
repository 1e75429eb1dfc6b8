//! What open connections and listeners rest on. When the grants change, each is judged again as a new one would be, and
//! what no grant allows any more is ended.

use super::{
    Active, Front,
    connection::Connection,
    context::{Principal, full_name},
    policy::{self, Denial, Operation, SocketSource},
};
use luassl_protocol::{ContextSpec, ErrorCode, Failure, Role};
use luassl_settings::Grant;
use luassl_tls::{self as tls, Floors};
use openssl::ssl::SslRef;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// Lines of one reload about what it ends; what is beyond them is one line together.
const MAX_WARNINGS: usize = 64;

/// Who asked for what.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) principal: Principal,
    /// As the program named them, seen from its directory; each once.
    identities: Vec<String>,
    /// Without what resolves as text: each of many names is joined to it, on threads that others need.
    directory: Option<String>,
    listener: Option<String>,
    role: Role,
}

impl Standing {
    pub(super) fn new(
        principal: Principal,
        spec: &ContextSpec,
        listener: Option<String>,
        role: Role,
    ) -> Self {
        let mut identities = super::context::identities_of(spec);
        let mut known = HashSet::new();
        identities.retain(|name| known.insert(name.clone()));
        let directory = spec.directory.as_deref().map(|directory| policy::joined(directory, ""));
        Self { principal, identities, directory, listener, role }
    }

    /// What the grants that are in force demand of it.
    ///
    /// # Errors
    /// Why none allows it.
    pub(super) fn judge(&self, active: &Active) -> Result<Floors, Denial> {
        self.grant(active).map(Floors::from)
    }

    /// The grant in force that allows it.
    ///
    /// # Errors
    /// Why none does.
    pub(super) fn grant<'a>(&self, active: &'a Active) -> Result<&'a Grant, Denial> {
        let directory = self.directory.as_deref();
        let identities: Vec<_> = self
            .identities
            .iter()
            .map(|name| full_name(active, directory, name).unwrap_or_else(|| name.clone()))
            .collect();
        let way = self.listener.as_deref().map_or(SocketSource::OwnSocket, SocketSource::Listener);
        let operation = Operation { identities: &identities, role: Some(self.role), way };
        policy::decide(&active.settings, self.principal.caller(), operation)
    }

    /// Whose it is, for the log.
    fn label(&self) -> String {
        let identities = match &self.identities[..] {
            [] => "no identity".to_owned(),
            names => format!("identity {:?}", names.join(",")),
        };
        let owner = &self.principal.owner;
        format!("of uid {} on socket {:?} with {identities}", owner.uid, &*owner.socket)
    }
}

/// Why a session may not go on, where it may not.
fn objection(
    verdict: &Result<Floors, Denial>,
    negotiated: Option<&tls::Negotiated>,
    role: Role,
) -> Option<&'static str> {
    let Ok(floors) = verdict else { return Some("no grant allows it any more") };
    let negotiated = negotiated?;
    if negotiated.protocol < floors.minimum_protocol {
        return Some("its protocol version is below the grant's minimum_protocol");
    }
    if floors.verify_required && !negotiated.is_verified(role) {
        return Some("its peer was not verified, and the grant has verify_required");
    }
    if negotiated.rsa_key_exchange && !floors.rsa_key_exchange {
        return Some("it has RSA key exchange, which the grant allows no more");
    }
    None
}

fn withdrawn(why: &str) -> Failure {
    Failure::new(ErrorCode::Refused, format!("the connection was ended here: {why}"))
}

/// What a reload ends: whose, why, and how many.
#[derive(Default)]
pub(super) struct Ended {
    connections: BTreeMap<(String, &'static str), u64>,
    listeners: Vec<String>,
}

impl Ended {
    fn warnings(&self) -> Vec<String> {
        let connections = self.connections.iter().map(|((whose, why), count)| {
            format!(
                "{count} open {} {whose} end: {why}",
                if *count == 1 { "connection" } else { "connections" }
            )
        });
        let mut lines: Vec<_> = self.listeners.iter().cloned().chain(connections).collect();
        if let Some(more) = lines.len().checked_sub(MAX_WARNINGS).filter(|more| *more > 0) {
            lines.truncate(MAX_WARNINGS);
            lines.push(format!("and {more} more such lines"));
        }
        lines
    }
}

impl Front {
    /// Notes what a session has negotiated, and judges it by what is in force now: a reload may have come in between.
    ///
    /// # Errors
    /// Why it may not go on.
    pub(super) fn admit(&self, connection: &Connection, ssl: &SslRef) -> Result<(), Failure> {
        connection.negotiated(tls::negotiated(ssl));
        // The configuration is read after that is noted: a reload from now on judges this connection itself.
        let active = self.active();
        let (Some(standing), negotiated) = connection.standing() else { return Ok(()) };
        match objection(&standing.judge(&active), negotiated.as_ref(), standing.role) {
            Some(why) => Err(withdrawn(why)),
            None => Ok(()),
        }
    }

    /// Ends the connections and listeners that no grant allows any more, after a warning for each owner and identity.
    /// Gives the warnings.
    pub(super) fn end_what_is_withdrawn(self: &Arc<Self>) -> Vec<String> {
        let active = self.active();
        let mut ended = Ended::default();
        let mut verdicts: HashMap<*const Standing, Result<Floors, Denial>> = HashMap::new();
        let mut condemned = Vec::new();
        // Kept until the end: an address stands for one standing as long as that lives.
        let all: Vec<_> =
            self.runtime.connections.all().into_iter().map(|one| (one.standing(), one)).collect();
        for ((standing, negotiated), connection) in &all {
            let Some(standing) = standing else { continue };
            let verdict = verdicts.entry(Arc::as_ptr(standing)).or_insert_with(|| standing.judge(&active));
            if let Some(why) = objection(verdict, negotiated.as_ref(), standing.role) {
                *ended.connections.entry((standing.label(), why)).or_default() += 1;
                condemned.push((connection, why));
            }
        }
        let listeners = self.acceptors.withdrawn(&active);
        ended.listeners = listeners
            .iter()
            .map(|listener| {
                let standing = listener.sessions.standing(Role::Server);
                format!("a listener {} ends: no grant allows it any more", standing.label())
            })
            .collect();
        let warnings = ended.warnings();
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        condemned.iter().for_each(|(connection, why)| connection.withdraw(withdrawn(why)));
        self.acceptors.drop_withdrawn();
        listeners.iter().for_each(|listener| listener.fail());
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::Owner;
    use luassl_protocol::ProtocolVersion;

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
        // Positive control: the names stand for the same as before.
        for name in &names {
            assert_eq!(policy::joined(&short, name), policy::joined(&directory, name));
        }
        assert_eq!(policy::joined(&short, "../b"), "/srv/b");
    }

    const FREE: Floors = Floors {
        minimum_protocol: ProtocolVersion::Tls12,
        verify_required: false,
        rsa_key_exchange: true,
        dhe: true,
        key_log: false,
    };

    fn session() -> tls::Negotiated {
        tls::Negotiated {
            protocol: ProtocolVersion::Tls12,
            server_verified: false,
            client_verified: false,
            rsa_key_exchange: true,
        }
    }

    fn objects(floors: Floors, session: &tls::Negotiated) -> bool {
        objection(&Ok(floors), Some(session), Role::Client).is_some()
    }

    #[test]
    fn a_session_goes_on_as_long_as_a_grant_allows_it() {
        assert!(!objects(FREE, &session()));
        assert!(objection(&Err(Denial::NoGrant), None, Role::Server).is_some(), "a handshake ends, too");
        assert!(objection(&Ok(FREE), None, Role::Server).is_none());
    }

    #[test]
    fn a_raised_floor_ends_what_is_below_it() {
        let newer = Floors { minimum_protocol: ProtocolVersion::Tls13, ..FREE };
        assert!(objects(newer, &session()));
        assert!(!objects(newer, &tls::Negotiated { protocol: ProtocolVersion::Tls13, ..session() }));
        let strict = Floors { verify_required: true, ..FREE };
        assert!(objects(strict, &session()));
        assert!(!objects(strict, &tls::Negotiated { server_verified: true, ..session() }));
        assert!(objects(strict, &tls::Negotiated { client_verified: true, ..session() }), "the other role");
        let without = Floors { rsa_key_exchange: false, ..FREE };
        assert!(objects(without, &session()));
        assert!(!objects(without, &tls::Negotiated { rsa_key_exchange: false, ..session() }));
    }
}
