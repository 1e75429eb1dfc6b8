//! The requests that a front may make to the keeper, according to the front's configuration and the grants.

use crate::config::{Front, Selection};
use luassl_keeper_ipc::admin::Rights;
use luassl_protocol::ProtocolVersion;
use luassl_settings::Grant;

/// Returns the requests to the keeper that a grant requires from a front.
pub(super) fn rights(front: &Front, grant: &Grant) -> Rights {
    let roles = front.roles;
    let accepts = grant.listen || names_listener_of(front, grant);
    let (server, client) =
        (grant.server && roles.server && accepts, grant.client && roles.client && grant.connect);
    let tls12 = grant.minimum_protocol == ProtocolVersion::Tls12;
    Rights {
        tls13_server: server,
        tls12_server: server && tls12,
        dhe: server && tls12 && grant.dhe,
        rsa_key_exchange: server && tls12 && grant.rsa_key_exchange,
        tls13_client: client,
        tls12_client: client && tls12,
        audit: grant.audit,
    }
}

/// Returns whether a grant lists a listener that the front serves. Connections of another front never reach
/// this one.
fn names_listener_of(front: &Front, grant: &Grant) -> bool {
    let is_own = |name: &String| front.listeners.contains(name);
    grant.listeners.iter().any(|name| if name == "*" { !front.listeners.is_empty() } else { is_own(name) })
}

/// Returns the identities of a front that a grant lists.
pub(super) fn common(own: &Selection, grant: &Grant) -> Selection {
    let all = grant.identities.iter().any(|name| name == "*");
    let listed = |name: &&String| all || grant.identities.contains(name);
    match own {
        Selection::All if all => Selection::All,
        Selection::All => Selection::Only(grant.identities.iter().cloned().collect()),
        Selection::Only(names) => Selection::Only(names.iter().filter(listed).cloned().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Roles;
    use luassl_settings::Grantee;

    const BOTH: Roles = Roles { server: true, client: true };

    /// Returns a front that serves these listeners.
    fn front(roles: Roles, listeners: &[&str]) -> Front {
        Front {
            user: None,
            keeper_socket: None,
            identities: Selection::All,
            roles,
            control: true,
            sockets: [].into(),
            listeners: listeners.iter().map(|&name| name.to_owned()).collect(),
            ticket_domain: None,
        }
    }

    /// Returns the rights that a grant gives to a front that serves the listener `web`.
    fn rights_in(roles: Roles, grant: &Grant) -> Rights {
        rights(&front(roles, &["web"]), grant)
    }

    fn grant() -> Grant {
        Grant {
            grantee: Grantee::User(1),
            identities: vec!["*".to_owned()],
            server: true,
            client: true,
            listeners: Vec::new(),
            listen: true,
            connect: true,
            minimum_protocol: ProtocolVersion::Tls12,
            verify_required: false,
            key_log: false,
            rsa_key_exchange: true,
            dhe: true,
            audit: false,
            trusts: None,
            max_connections: None,
            max_contexts: None,
        }
    }

    #[test]
    fn finding_2_a_grant_gives_what_its_operations_need_and_no_more() {
        let all = rights_in(BOTH, &grant());
        assert!(all.tls13_server && all.tls12_server && all.dhe && all.rsa_key_exchange);
        assert!(all.tls13_client && all.tls12_client);
        let newest = rights_in(BOTH, &Grant { minimum_protocol: ProtocolVersion::Tls13, ..grant() });
        let tls13 = Rights { tls13_server: true, tls13_client: true, ..Rights::default() };
        assert_eq!(newest, tls13);
        let server = rights_in(Roles { client: false, ..BOTH }, &grant());
        assert!(server.tls12_server && !server.tls13_client && !server.tls12_client);
        // Without connected sockets there are no client handshakes. Without any sockets there are no
        // handshakes.
        let listening = rights_in(BOTH, &Grant { connect: false, ..grant() });
        assert_eq!(listening, server);
        let connecting = rights_in(BOTH, &Grant { listen: false, ..grant() });
        assert_eq!(connecting, rights_in(Roles { server: false, ..BOTH }, &grant()));
        let none = rights_in(BOTH, &Grant { connect: false, listen: false, ..grant() });
        assert_eq!(none, Rights::default());
        let named = Grant { connect: false, listen: false, listeners: vec!["web".to_owned()], ..grant() };
        assert_eq!(rights_in(BOTH, &named), server);
    }

    #[test]
    fn finding_2_listeners_of_another_front_give_no_right_at_this_one() {
        let listeners = |names: &[&str]| Grant {
            connect: false,
            listen: false,
            listeners: names.iter().map(|&name| name.to_owned()).collect(),
            ..grant()
        };
        let (web, mail, none) = (front(BOTH, &["web"]), front(BOTH, &["mail"]), front(BOTH, &[]));
        // Positive control: the front that serves it has the rights of a server.
        assert!(rights(&web, &listeners(&["web"])).tls12_server);
        assert_eq!(rights(&mail, &listeners(&["web"])), Rights::default());
        assert_eq!(rights(&none, &listeners(&["web"])), Rights::default());
        // One of several listeners suffices. With `*`, every front that has listeners has the rights.
        let server = rights(&web, &listeners(&["web"]));
        for grant in [listeners(&["mail", "web"]), listeners(&["*"])] {
            assert_eq!(rights(&web, &grant), server);
            assert_eq!(rights(&none, &grant), Rights::default());
        }
        // A program may pass its own sockets to any front.
        assert_eq!(rights(&mail, &Grant { listen: true, ..listeners(&["web"]) }), server);
    }
}
