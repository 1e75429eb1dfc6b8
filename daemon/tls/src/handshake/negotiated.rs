//! The negotiated parameters of a session, for a later check whether a grant allows it.

use crate::verify::remembered;
use luassl_protocol::{ProtocolVersion, Role};
use openssl::ssl::{SslRef, SslVerifyMode, SslVersion};
use openssl::x509::X509VerifyResult;

/// The parameters that the floors of grants concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The protocol version.
    pub protocol: ProtocolVersion,
    /// Whether the server has presented a good certificate for the expected name to this client, or whether the session
    /// began under a grant that requires that.
    pub server_verified: bool,
    /// Whether the client has presented a good certificate, or was not asked for one, or whether the session began
    /// under a grant that requires verification.
    pub client_verified: bool,
    /// Whether the client has encrypted the pre-master secret with the server's RSA key.
    pub rsa_key_exchange: bool,
}

impl Negotiated {
    /// Returns whether the peer is verified as `verify_required` demands. `role` is the local side.
    #[must_use]
    pub fn is_verified(&self, role: Role) -> bool {
        match role {
            Role::Client => self.server_verified,
            Role::Server => self.client_verified,
        }
    }
}

/// Returns the negotiated parameters of an established session.
#[must_use]
pub fn negotiated(ssl: &SslRef) -> Negotiated {
    let remembered = remembered(ssl);
    let faultless = remembered.is_none_or(|remembered| remembered.faults().is_empty());
    let good = ssl.verify_result() == X509VerifyResult::OK && faultless && ssl.peer_certificate().is_some();
    let required = remembered.is_some_and(|remembered| remembered.required);
    let newest = ssl.version2() == Some(SslVersion::TLS1_3);
    let cipher = ssl.current_cipher().map(|cipher| cipher.description()).unwrap_or_default();
    Negotiated {
        protocol: if newest { ProtocolVersion::Tls13 } else { ProtocolVersion::Tls12 },
        server_verified: required || good && remembered.is_some_and(|remembered| remembered.host.is_some()),
        client_verified: required || good || !ssl.verify_mode().contains(SslVerifyMode::PEER),
        rsa_key_exchange: ["Kx=RSA ", "Kx=RSAPSK "].iter().any(|exchange| cipher.contains(exchange)),
    }
}
