//! Verification of the peer: which peers must be verified, against which host, and which faults were found.

pub(crate) mod certificate;
pub mod chain;
pub(crate) mod client_supplied;
pub(crate) mod dane;
pub mod peer_keys;
pub(crate) mod pem;
pub(crate) mod store;
pub(crate) mod trust;

use crate::ffi::safe_ffi;
use crate::names::{HOST_FLAGS, Host, host_names};
use luassl_protocol::{ErrorCode, Failure, VERIFY_NONE, VerifyFault};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslRef, SslVerifyMode};
use openssl::x509::{X509StoreContext, X509StoreContextRef, X509VerifyResult};
use parking_lot::Mutex;
use std::sync::LazyLock;

/// The limit on the length of chains in LuaSSL.
pub(crate) const DEFAULT_DEPTH: u32 = 4;
/// A limit that no chain in a handshake reaches.
pub(crate) const LARGEST_DEPTH: u32 = 100;

/// The verification mode of the peer for each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) server: SslVerifyMode,
    pub(crate) client: SslVerifyMode,
}

/// Returns the modes for luassl's constants. A floor that requires verification makes them stricter.
///
/// # Errors
/// `Invalid`, which names the bit, for a sum that is not one of luassl's.
pub(crate) fn modes(verify: Option<u64>, required: bool) -> Result<Modes, Failure> {
    let bits = verify_bits(verify.unwrap_or(VERIFY_NONE))?;
    let mut server = SslVerifyMode::from_bits_retain(bits);
    if required && !server.is_empty() {
        server |= SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    }
    let unverified = verify == Some(VERIFY_NONE) && !required;
    let client = if unverified { SslVerifyMode::NONE } else { SslVerifyMode::PEER };
    Ok(Modes { server, client })
}

/// Returns OpenSSL's bits. Each constant except VERIFY_NONE requests a certificate, so that each has an effect.
fn verify_bits(sum: u64) -> Result<i32, Failure> {
    const PEER: i32 = 1;
    let names = luassl_protocol::verify_names(sum)
        .map_err(|error| Failure::new(ErrorCode::Invalid, error.to_string()))?;
    Ok(names.fold(0, |bits, name| {
        bits | PEER
            | match name {
                "VERIFY_FAIL_IF_NO_PEER_CERT" => 2,
                "VERIFY_CLIENT_ONCE" => 4,
                "VERIFY_POST_HANDSHAKE" => 8,
                _ => 0,
            }
    }))
}

/// Makes a session check whether the peer's certificate carries `host`.
pub(crate) fn expect_host(ssl: &mut SslRef, host: &Host) -> Result<(), ErrorStack> {
    let param = ssl.param_mut();
    param.set_hostflags(HOST_FLAGS);
    match host {
        Host::Name(name) => param.set_host(name),
        Host::Address(address) => param.set_ip(*address),
    }
}

/// The first fault of a peer's certificates.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) result: X509VerifyResult,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) validity: (String, String),
    /// The host names and addresses of the certificate.
    pub(crate) names: Vec<String>,
}

/// The data that a session keeps for its messages.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// The expected host, as it was given.
    pub(crate) host: Option<String>,
    /// Whether the grant under which the session began requires verification.
    pub(crate) required: bool,
    fault: Mutex<Option<Fault>>,
    all: Mutex<Vec<VerifyFault>>,
}

/// The maximum number of faults that are kept. The chain of a peer can have many.
const MOST_FAULTS: usize = 64;

static REMEMBERED: LazyLock<Option<Index<Ssl, Remembered>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

/// Prepares a session for [`record`].
pub(crate) fn remember(ssl: &mut SslRef, host: Option<&str>, required: bool) {
    if let Some(index) = *REMEMBERED {
        ssl.set_ex_data(
            index,
            Remembered { host: host.map(str::to_owned), required, ..Remembered::default() },
        );
    }
}

/// Returns the data that [`remember`] and [`record`] stored.
pub(crate) fn remembered(ssl: &SslRef) -> Option<&Remembered> {
    ssl.ex_data((*REMEMBERED)?)
}

impl Remembered {
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.lock().clone()
    }

    /// Returns all faults, in the order in which they were found.
    pub(crate) fn faults(&self) -> Vec<VerifyFault> {
        self.all.lock().clone()
    }
}

/// The verification callback. It changes no result, and keeps the data for a message.
pub(crate) fn record(good: bool, context: &mut X509StoreContextRef) -> bool {
    if !good {
        keep(context);
    }
    good
}

/// Does the same as [`record`], if the handshake continues in spite of the fault.
pub(crate) fn record_and_go_on(good: bool, context: &mut X509StoreContextRef) -> bool {
    record(good, context);
    true
}

fn keep(context: &X509StoreContextRef) -> Option<()> {
    let ssl = context.ex_data(X509StoreContext::ssl_idx().ok()?)?;
    let remembered = remembered(ssl)?;
    let mut all = remembered.all.lock();
    if all.len() < MOST_FAULTS {
        let message = context.error().error_string().to_owned();
        all.push(VerifyFault { depth: context.error_depth(), message });
    }
    drop(all);
    let mut fault = remembered.fault.lock();
    if fault.is_none() {
        let certificate = context.current_cert();
        *fault = Some(Fault {
            result: context.error(),
            subject: certificate.map(|one| safe_ffi::name_text(one.subject_name())).unwrap_or_default(),
            issuer: certificate.map(|one| safe_ffi::name_text(one.issuer_name())).unwrap_or_default(),
            validity: certificate
                .map(|one| (one.not_before().to_string(), one.not_after().to_string()))
                .unwrap_or_default(),
            names: certificate.map(host_names).unwrap_or_default(),
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::verify::modes;
    use luassl_protocol::{VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_NONE, VERIFY_PEER};
    use openssl::ssl::SslVerifyMode;

    const BOTH: SslVerifyMode = SslVerifyMode::PEER.union(SslVerifyMode::FAIL_IF_NO_PEER_CERT);

    #[test]
    fn clients_verify_unless_told_not_to_and_servers_ask_when_told_to() {
        let default = modes(None, false).unwrap();
        assert_eq!((default.server, default.client), (SslVerifyMode::NONE, SslVerifyMode::PEER));
        let none = modes(Some(VERIFY_NONE), false).unwrap();
        assert_eq!((none.server, none.client), (SslVerifyMode::NONE, SslVerifyMode::NONE));
        let peer = modes(Some(VERIFY_PEER), false).unwrap();
        assert_eq!((peer.server, peer.client), (SslVerifyMode::PEER, SslVerifyMode::PEER));
        let fail = modes(Some(VERIFY_PEER + VERIFY_FAIL_IF_NO_PEER_CERT), false).unwrap();
        assert_eq!(fail.server, BOTH);
        assert_eq!(modes(Some(VERIFY_FAIL_IF_NO_PEER_CERT), false).unwrap().server, BOTH);
    }

    #[test]
    fn a_floor_tightens() {
        let none = modes(Some(VERIFY_NONE), true).unwrap();
        assert_eq!((none.server, none.client), (SslVerifyMode::NONE, SslVerifyMode::PEER));
        assert_eq!(modes(Some(VERIFY_PEER), true).unwrap().server, BOTH);
    }

    #[test]
    fn a_foreign_number_is_refused() {
        assert!(modes(Some(1 << 40), false).is_err());
    }
}
