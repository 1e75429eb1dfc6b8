//! Decides whether a session may continue, from its negotiated parameters and the grants in force.

use crate::{
    authorization::{authority::Authority, policy::Denial},
    runtime::connection::Connection,
};
use luassl_protocol::{ErrorCode, Failure, Role};
use luassl_tls::{self as tls, Floors};
use openssl::ssl::SslRef;

/// Records what a session has negotiated, and judges it by the grants that are in force now. A reload may have happened
/// since the handshake began.
///
/// # Errors
/// Returns the reason why the session may not continue.
pub(crate) fn admit(authority: &Authority, connection: &Connection, ssl: &SslRef) -> Result<(), Failure> {
    connection.negotiated(tls::negotiated(ssl));
    // The configuration is read after the parameters are recorded. A later reload judges this connection itself.
    let active = authority.active();
    let (Some(standing), negotiated) = connection.standing() else { return Ok(()) };
    match objection(&standing.judge(&active), negotiated.as_ref(), standing.role) {
        Some(why) => Err(withdrawn(why)),
        None => Ok(()),
    }
}

/// Returns why a session may not continue; `None` if it may.
pub(crate) fn objection(
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

pub(crate) fn withdrawn(why: &str) -> Failure {
    Failure::new(ErrorCode::Refused, format!("the connection was ended here: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use luassl_protocol::ProtocolVersion;

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
