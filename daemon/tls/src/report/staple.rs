//! The OCSP response that a server has stapled (RFC 6066, 8; RFC 6960), as its client receives it.

use crate::ffi::safe_ffi;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ocsp::{OcspBasicResponseRef, OcspCertId, OcspCertStatus, OcspFlag, OcspResponse};
use openssl::ssl::SslRef;
use openssl::stack::Stack;
use openssl::x509::{X509, X509Ref};

/// The maximum difference between clocks, in seconds.
const CLOCKS: u32 = 300;

/// Returns the response and its status: `good`, `revoked` or `unknown`, or the reason why it has no valid status.
pub(crate) fn staple(ssl: &SslRef) -> Option<(Vec<u8>, String)> {
    let response = ssl.ocsp_status().filter(|response| !response.is_empty())?;
    let said = safe_ffi::without_error_queue(|| status(ssl, response));
    let said = said.map_or_else(|why| format!("invalid: {why}"), str::to_owned);
    Some((response.to_vec(), said))
}

fn status(ssl: &SslRef, response: &[u8]) -> Result<&'static str, &'static str> {
    let unreadable = |_: ErrorStack| "this is no OCSP response";
    let response = OcspResponse::from_der(response).map_err(unreadable)?;
    let basic = response.basic().map_err(|_| "the responder has refused")?;
    let leaf = ssl.peer_certificate().ok_or("the peer has no certificate")?;
    let (issuer, sent) = chain(ssl)?;
    let store = ssl.ssl_context().cert_store();
    basic.verify(&sent, store, OcspFlag::empty()).map_err(|_| "its signature is not the issuer's")?;
    one_of(&basic, &leaf, &issuer)
}

/// Returns the issuer of the peer's certificate, and the certificates that may have signed the response.
fn chain(ssl: &SslRef) -> Result<(X509, Stack<X509>), &'static str> {
    let all = ssl.verified_chain().or_else(|| ssl.peer_cert_chain());
    let all: Vec<X509> = all.into_iter().flatten().map(ToOwned::to_owned).collect();
    let issuer = all.get(1).or_else(|| all.first()).cloned();
    let issuer = issuer.ok_or("the issuer of the certificate is not known")?;
    let memory = |_: ErrorStack| "there is no memory";
    let mut stack = Stack::new().map_err(memory)?;
    all.into_iter().try_for_each(|one| stack.push(one)).map_err(memory)?;
    Ok((issuer, stack))
}

fn one_of(
    basic: &OcspBasicResponseRef,
    leaf: &X509Ref,
    issuer: &X509Ref,
) -> Result<&'static str, &'static str> {
    // Responders identify certificates by either digest.
    for digest in [MessageDigest::sha1(), MessageDigest::sha256()] {
        let id = OcspCertId::from_cert(digest, leaf, issuer).map_err(|_| "the certificate has no name")?;
        let Some(status) = basic.find_status(&id) else { continue };
        status.check_validity(CLOCKS, None).map_err(|_| "it is too old, or not yet valid")?;
        return Ok(match status.status {
            OcspCertStatus::GOOD => "good",
            OcspCertStatus::REVOKED => "revoked",
            _ => "unknown",
        });
    }
    Err("it is about another certificate")
}
