//! The policy: a pure function of the caller, the operation and the configuration.

use crate::authorization::identity_name::AskedIdentity;
use luassl_protocol::{ErrorCode, Failure, Role};
use luassl_settings::{Grant, Grantee, Settings};

/// The caller, as the kernel reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) uid: u32,
    pub(crate) gids: &'a [u32],
    /// The named control socket that the caller connected to; `control` for the general one.
    pub(crate) socket: &'a str,
}

/// The source of a connection's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketSource<'a> {
    /// No socket yet: a context is being created.
    Context,
    /// Sockets that the caller owns.
    OwnSocket,
    /// A listener that the configuration names.
    Listener(&'a str),
}

/// The requested operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) identities: &'a [AskedIdentity],
    /// The TLS role; `None` if it is not decided yet.
    pub(crate) role: Option<Role>,
    pub(crate) source: SocketSource<'a>,
}

/// Why an operation is refused, for the log. The caller receives less information ([`Denial::into_failure`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("no grant matches")]
    NoGrant,
    /// The identity, as the caller named it.
    #[error("identity \"{0}\" is unknown or not granted")]
    Identity(String),
    #[error("listener \"{0}\" is unknown or not granted")]
    Listener(String),
    #[error("sockets of the caller's own are not granted for the {0} role")]
    OwnSocket(&'static str),
    #[error("the {0} role is not granted")]
    Role(&'static str),
    #[error("no single grant allows the whole operation")]
    Mixed,
}

/// Returns the first grant, in the order of the configuration, that allows the whole operation.
///
/// # Errors
/// Returns the reason of the refusal, for the log.
pub(crate) fn decide<'s>(
    settings: &'s Settings,
    caller: Caller<'_>,
    operation: Operation<'_>,
) -> Result<&'s Grant, Denial> {
    let grants: Vec<_> = settings.grants.iter().filter(|grant| is_for(grant, caller)).collect();
    if let Some(grant) = grants.iter().find(|grant| objection(settings, grant, operation).is_none()) {
        return Ok(grant);
    }
    // If each grant objects to something else, no single objection is accurate.
    let mut objections = grants.iter().filter_map(|grant| objection(settings, grant, operation));
    let Some(first) = objections.next() else { return Err(Denial::NoGrant) };
    Err(if objections.all(|other| other == first) { first } else { Denial::Mixed })
}

/// Returns whether any grant applies to the caller. The front does no work for a caller without a grant.
pub(crate) fn has_grant(settings: &Settings, caller: Caller<'_>) -> bool {
    settings.grants.iter().any(|grant| is_for(grant, caller))
}

/// Returns the largest limit that any of the caller's grants gives, or the default.
pub(crate) fn largest(
    settings: &Settings,
    caller: Caller<'_>,
    bound: impl Fn(&Grant) -> Option<u32>,
    default: u32,
) -> u32 {
    let own = settings.grants.iter().filter(|grant| is_for(grant, caller));
    own.map(|grant| bound(grant).unwrap_or(default)).max().unwrap_or(default)
}

fn is_for(grant: &Grant, caller: Caller<'_>) -> bool {
    match &grant.grantee {
        Grantee::User(uid) => *uid == caller.uid,
        Grantee::Group(gid) => caller.gids.contains(gid),
        Grantee::Socket(name) => name == caller.socket,
    }
}

fn objection(settings: &Settings, grant: &Grant, operation: Operation<'_>) -> Option<Denial> {
    let lists = |list: &[String], name: &str| list.iter().any(|entry| entry == "*" || entry == name);
    for AskedIdentity { asked, name } in operation.identities {
        // Unknown identities and forbidden identities are handled alike.
        let listed = name.as_ref().is_some_and(|name| lists(&grant.identities, name.as_str()));
        if !listed {
            return Some(Denial::Identity(asked.clone()));
        }
    }
    match operation.role {
        Some(Role::Server) if !grant.server => return Some(Denial::Role("server")),
        Some(Role::Client) if !grant.client => return Some(Denial::Role("client")),
        _ => {}
    }
    match (operation.source, operation.role) {
        (SocketSource::Listener(name), _) => {
            let known = settings.listeners.iter().any(|listener| listener == name);
            (!(known && lists(&grant.listeners, name))).then(|| Denial::Listener(name.to_owned()))
        }
        (SocketSource::OwnSocket, Some(Role::Server)) if !grant.listen => Some(Denial::OwnSocket("server")),
        (SocketSource::OwnSocket, Some(Role::Client)) if !grant.connect => Some(Denial::OwnSocket("client")),
        _ => None,
    }
}

impl Denial {
    /// Returns the word for this denial in the audit log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::NoGrant => "no-grant",
            Self::Identity(_) => "identity",
            Self::Listener(_) => "listener",
            Self::OwnSocket(_) => "own-socket",
            Self::Role(_) => "role",
            Self::Mixed => "no-single-grant",
        }
    }

    /// Returns the failure for the caller. It is the same for an unknown and for a forbidden identity.
    pub(crate) fn into_failure(self) -> Failure {
        let message = match self {
            Self::NoGrant => {
                "luassld has no grant for this user: the operator adds one ([[grant]] in luassl.toml)"
                    .to_owned()
            }
            Self::Identity(name) => format!("identity \"{name}\" is not known, or not granted to this user"),
            Self::Listener(name) => format!("listener \"{name}\" is not known, or not granted to this user"),
            Self::OwnSocket(role) => {
                format!("sockets of this user's own are not granted for the {role} role")
            }
            Self::Role(role) => format!("the {role} role is not granted to this user"),
            Self::Mixed => "no single grant of this user allows the whole operation".to_owned(),
        };
        Failure::new(ErrorCode::Refused, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::identity_name::IdentityIndex;
    use luassl_settings::IdentitySettings;

    fn grant(grantee: Grantee, identities: &[&str]) -> Grant {
        Grant {
            grantee,
            identities: identities.iter().map(|&name| name.to_owned()).collect(),
            server: true,
            listeners: vec!["https".to_owned()],
            listen: true,
            verify_required: false,
            ..crate::context::tests::grant()
        }
    }

    fn settings(grants: Vec<Grant>) -> Settings {
        let www = IdentitySettings { aliases: vec!["/etc/keys/www.pem".to_owned()], fault: None };
        Settings {
            grants,
            identities: [("www".to_owned(), www), ("mail".to_owned(), IdentitySettings::default())].into(),
            listeners: vec!["https".to_owned()],
            ..Settings::default()
        }
    }

    const CALLER: Caller<'static> = Caller { uid: 1000, gids: &[100, 27], socket: "control" };

    fn names(settings: &Settings, list: &[&str]) -> Vec<AskedIdentity> {
        let index = IdentityIndex::new(settings);
        list.iter().map(|asked| index.resolve(None, asked)).collect()
    }

    fn ask<'a>(identities: &'a [AskedIdentity], role: Role, source: SocketSource<'a>) -> Operation<'a> {
        Operation { identities, role: Some(role), source }
    }

    #[test]
    fn without_a_grant_nothing_is_allowed() {
        let settings = settings(vec![grant(Grantee::User(1), &["*"])]);
        assert!(!has_grant(&settings, CALLER));
        let nothing = ask(&[], Role::Client, SocketSource::OwnSocket);
        assert_eq!(decide(&settings, CALLER, nothing), Err(Denial::NoGrant));
    }

    #[test]
    fn a_supplementary_group_and_a_named_socket_count() {
        for grantee in [Grantee::User(1000), Grantee::Group(27), Grantee::Socket("control".to_owned())] {
            let settings = settings(vec![grant(grantee, &["www"])]);
            assert!(has_grant(&settings, CALLER));
            let identities = names(&settings, &["/etc/keys/www.pem"]);
            assert!(
                decide(&settings, CALLER, ask(&identities, Role::Server, SocketSource::OwnSocket)).is_ok()
            );
        }
    }

    #[test]
    fn unknown_and_forbidden_read_alike() {
        let settings = settings(vec![grant(Grantee::User(1000), &["www"])]);
        let told = |name: &str| {
            let identities = names(&settings, &[name]);
            let denial = decide(&settings, CALLER, ask(&identities, Role::Server, SocketSource::OwnSocket))
                .unwrap_err();
            denial.into_failure().message.replace(name, "X")
        };
        assert_eq!(told("mail"), told("nobody"));
    }

    #[test]
    fn two_grants_do_not_add_up() {
        let mut no_listen = grant(Grantee::User(1000), &["www"]);
        no_listen.listen = false;
        let mail = grant(Grantee::User(1000), &["mail"]);
        let settings = settings(vec![no_listen, mail]);
        let identities = names(&settings, &["www"]);
        assert_eq!(
            decide(&settings, CALLER, ask(&identities, Role::Server, SocketSource::OwnSocket)),
            Err(Denial::Mixed)
        );
        assert!(decide(&settings, CALLER, ask(&identities, Role::Client, SocketSource::OwnSocket)).is_ok());
    }

    #[test]
    fn the_largest_quota_counts() {
        let (mut small, mut large) = (grant(Grantee::User(1000), &[]), grant(Grantee::Group(100), &[]));
        small.max_connections = Some(3);
        large.max_connections = Some(9);
        let settings = settings(vec![small, large]);
        assert_eq!(largest(&settings, CALLER, |grant| grant.max_connections, 5), 9);
        assert_eq!(largest(&settings, CALLER, |grant| grant.max_contexts, 5), 5);
        let unbounded = grant(Grantee::User(1000), &[]);
        let settings = Settings { grants: vec![settings.grants[0].clone(), unbounded], ..settings };
        assert_eq!(
            largest(&settings, CALLER, |grant| grant.max_connections, 20),
            20,
            "the default counts too"
        );
    }
}
