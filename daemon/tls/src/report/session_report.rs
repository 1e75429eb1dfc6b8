//! The complete report of a session, in OpenSSL's terms.

use crate::context::key_log;
use crate::handshake::rekey::peer_finished;
use crate::report::staple::staple;
use crate::verify::remembered;
use luassl_protocol::Facts;
use openssl::ssl::SslRef;
use openssl::x509::X509Ref;
use serde_bytes::ByteBuf;

/// Returns the report of a session.
#[must_use]
pub fn session_report(ssl: &SslRef) -> Facts {
    let (staple, staple_status) = staple(ssl).unzip();
    let cipher = ssl.current_cipher();
    let bits = cipher.map(|cipher| cipher.bits());
    let count = |bits: i32| u32::try_from(bits).unwrap_or(0);
    let verdict = ssl.verify_result();
    Facts {
        protocol: ssl.version_str().to_owned(),
        cipher: cipher.map(|cipher| cipher.description()).unwrap_or_default(),
        bits: bits.as_ref().map_or(0, |bits| count(bits.secret)),
        algorithm_bits: bits.as_ref().map_or(0, |bits| count(bits.algorithm)),
        finished: own_finished(ssl).into(),
        peer_finished: peer_finished(ssl).into(),
        verify_code: verdict.as_raw(),
        verify_text: verdict.error_string().to_owned(),
        verify_faults: remembered(ssl).map(|remembered| remembered.faults()).unwrap_or_default(),
        peer: ssl.peer_certificate().and_then(|peer| der(&peer)),
        peer_chain: ssl.peer_cert_chain().into_iter().flatten().filter_map(der).collect(),
        local_chain: local_chain(ssl),
        staple: staple.map(ByteBuf::from),
        staple_status,
        key_log: key_log::lines(ssl),
    }
}

fn own_finished(ssl: &SslRef) -> Vec<u8> {
    let mut finished = vec![0; 64];
    let length = ssl.finished(&mut finished);
    finished.truncate(length);
    finished
}

fn der(certificate: &X509Ref) -> Option<ByteBuf> {
    certificate.to_der().ok().map(ByteBuf::from)
}

fn local_chain(ssl: &SslRef) -> Vec<ByteBuf> {
    let Some(own) = ssl.certificate().and_then(der) else { return Vec::new() };
    let rest = crate::ffi::safe_ffi::own_chain(ssl);
    std::iter::once(own).chain(rest.iter().filter_map(|one| der(one))).collect()
}
