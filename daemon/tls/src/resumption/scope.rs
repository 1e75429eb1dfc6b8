//! The scope of a session: one digest of all settings that decide whether a session may be resumed. It is the
//! session-id context, and the key of a ticket is derived from it. A different setting gives another scope, and a
//! session of another scope leads to a full handshake (CVE-2025-23419 describes the attack without such a check).

use crate::context::credentials::Credentials;
use crate::context::plan::Plan;
use crate::names::normal;
use crate::resumption::tickets::Scope;
use crate::verify::trust::Anchored;
use openssl::sha::Sha256;
use openssl::ssl::SslVerifyMode;
use std::net::SocketAddr;
use std::sync::Arc;

/// A digest of fields in a fixed order. The fields are encoded so that they cannot run into each other.
#[derive(Clone)]
pub(crate) struct Fields(Sha256);

impl Fields {
    fn new(purpose: &str) -> Self {
        Self(Sha256::new()).bytes(purpose.as_bytes())
    }

    pub(crate) fn bytes(mut self, field: &[u8]) -> Self {
        self.0.update(&(field.len() as u64).to_be_bytes());
        self.0.update(field);
        self
    }

    fn number(self, field: impl Into<u64>) -> Self {
        self.bytes(&field.into().to_be_bytes())
    }

    /// Adds an optional field. A missing field differs from an empty one.
    pub(crate) fn optional(self, field: Option<&str>) -> Self {
        match field {
            Some(text) => self.number(1_u8).bytes(text.as_bytes()),
            None => self.number(0_u8),
        }
    }

    /// Adds an identity: its name, and the certificate that represents it.
    fn credentials(self, credentials: &Credentials) -> Self {
        self.bytes(credentials.identity.name.as_bytes()).bytes(&credentials.leaf_digest)
    }

    pub(crate) fn finish(self) -> Scope {
        self.0.finish()
    }
}

/// The part of the scope that all sessions of a context share, for each role.
#[derive(Clone)]
pub(crate) struct ScopeBase {
    server: Fields,
    client: Fields,
}

impl ScopeBase {
    /// Returns the base for a context of `owner`.
    pub(crate) fn new(plan: &Plan, owner: &str, anchored: &Anchored, own: Option<&Credentials>) -> Self {
        let settings = |role: &str, mode| settings(Fields::new(role), plan, owner, mode, anchored);
        let client = settings("client", plan.modes.client).number(u8::from(own.is_some()));
        Self {
            server: settings("server", plan.modes.server),
            client: own.into_iter().fold(client, Fields::credentials),
        }
    }

    /// Returns the scope of a server's session. It depends on the client's name that it expects (if any), the name that
    /// the client requests, and the identities for this name.
    pub(crate) fn server<'a>(
        &self,
        expected: Option<&str>,
        sni: Option<&str>,
        identities: impl Iterator<Item = &'a Arc<Credentials>>,
    ) -> Scope {
        let sni = sni.map(normal);
        let fields = self.server.clone().optional(expected).optional(sni.as_deref());
        identities.fold(fields, |fields, one| fields.credentials(one)).finish()
    }

    /// Returns the scope of a client's session. If the server has proved to be `host`, it is the same server on each of
    /// its addresses. If that was not checked, the scope is limited to one address.
    pub(crate) fn client(&self, host: Option<&str>, sni: Option<&str>, peer: SocketAddr) -> Scope {
        let fields = self.client.clone().optional(host).optional(sni).number(peer.port());
        let address = host.is_none().then(|| peer.ip().to_string());
        fields.optional(address.as_deref()).finish()
    }
}

fn settings(fields: Fields, plan: &Plan, owner: &str, mode: SslVerifyMode, anchored: &Anchored) -> Fields {
    // If a session verifies nothing, its scope does not depend on the trust.
    let trust: &[u8] = if mode.is_empty() { &[] } else { &anchored.digest };
    fields
        .bytes(owner.as_bytes())
        .number(mode.bits().unsigned_abs())
        .number(u8::from(plan.verify_required))
        .number(plan.depth)
        .number(u8::from(plan.crl_check_chain))
        .number(u8::from(plan.crl_check))
        .number(u8::from(plan.verify_continue))
        .number(u8::from(plan.ignore_purpose))
        .bytes(trust)
        .number(plan.options.bits())
        .bytes(format!("{:?} {:?}", plan.versions.lowest, plan.versions.highest).as_bytes())
        .number(u8::from(plan.rsa_key_exchange))
        .number(u8::from(plan.dh.is_offered()))
        .optional(plan.ciphers.as_deref())
        .optional(plan.suites.as_deref())
        .optional(plan.groups.as_deref())
}

#[cfg(test)]
mod tests {
    use crate::resumption::scope::Fields;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let fields = || Fields::new("x");
        assert_ne!(fields().bytes(b"ab").bytes(b"c").finish(), fields().bytes(b"a").bytes(b"bc").finish());
        assert_ne!(fields().optional(None).finish(), fields().optional(Some("")).finish());
        assert_ne!(fields().finish(), Fields::new("y").finish());
        assert_eq!(fields().number(7_u8).finish(), fields().number(7_u64).finish());
    }
}
