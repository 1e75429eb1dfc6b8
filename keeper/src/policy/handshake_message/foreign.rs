//! Recognises messages that other protocols sign, among the 64 random bytes and the parameters of a TLS 1.2 key
//! exchange.
//!
//! Such a list is never complete. It covers the protocols that sign with the kinds of keys that TLS servers have. Each
//! protocol is recognised by bytes that random data rarely contains; the comments give the odds. Only a TLS 1.3
//! signature is unusable for every other protocol.

use crate::policy::wire::{Cut, Fields};

/// The length of both randoms together.
pub(super) const RANDOMS: usize = 64;

/// Returns the name of the other protocol that the message belongs to. `None` if the message can be key exchange
/// parameters.
pub(super) fn name(message: &[u8]) -> Option<&'static str> {
    if is_der(message) {
        Some("a DER structure")
    } else if is_text(message) {
        Some("a text")
    } else if is_cose(message) {
        Some("a COSE structure")
    } else if is_ssh(message) {
        Some("an SSH authentication request")
    } else if is_ike(message) {
        Some("an IKEv2 message")
    } else if is_sshsig(message) {
        Some("an SSH signature")
    } else if is_paseto(message) {
        Some("a PASETO token")
    } else {
        None
    }
}

/// Matches X.509, PKCS#10, OCSP and the signed attributes of CMS: one SEQUENCE or SET with a DER length to the last
/// byte.
///
/// With a length in long form, one random in 2^23 matches for P-256 and one in 2^31 for DHE. Below 128 bytes (X25519,
/// X448), one in 2^15 would match, so the content must also consist of whole values.
///
/// The other length forms of BER also match, because parsers accept them, and sign and verify the bytes as given.
fn is_der(message: &[u8]) -> bool {
    if matches!(message, [0x30 | 0x31, 0x80, .., 0, 0]) {
        return true;
    }
    let mut fields = Fields::new(message);
    let Ok((tag, content)) = der_value(&mut fields) else { return false };
    matches!(tag, 0x30 | 0x31) && fields.is_empty() && (message.len() >= 128 || is_chain_of_values(content))
}

fn is_chain_of_values(content: &[u8]) -> bool {
    let mut fields = Fields::new(content);
    while !fields.is_empty() {
        if der_value(&mut fields).is_err() {
            return false;
        }
    }
    true
}

/// Returns the tag and the content of a DER value with a tag of one byte.
fn der_value<'a>(fields: &mut Fields<'a>) -> Result<(u8, &'a [u8]), Cut> {
    let tag = fields.u8()?;
    let form = fields.u8()?;
    if form < 0x80 {
        return Ok((tag, fields.take(usize::from(form))?));
    }
    let octets = fields.take(usize::from(form & 0x7f))?;
    let significant = octets.iter().position(|octet| *octet != 0).map_or(&[][..], |first| &octets[first..]);
    Cut::ensure(significant.len() <= 4)?;
    let length = significant.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    Ok((tag, fields.take(length)?))
}

/// Matches a token (RFC 7515, 7797), a script, or a message of a text protocol: ASCII text in place of the first
/// random. One random in 2^44 matches. The payload of a token need not be text, so the beginning of a token is checked
/// separately (one in 2^24).
fn is_text(message: &[u8]) -> bool {
    const RANDOM: usize = RANDOMS / 2;
    let text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    let random = message.get(..RANDOM).is_some_and(|random| random.iter().all(text));
    random || message.starts_with(b"eyJ")
}

/// Matches the Sig_structure of COSE (RFC 9052, 4.4): an array of four or five items, then the context as text.
fn is_cose(message: &[u8]) -> bool {
    [
        &b"\x84\x6aSignature1"[..],
        b"\x85\x69Signature",
        b"\x85\x70CounterSignature",
        b"\x84\x70CounterSignature",
    ]
    .iter()
    .any(|begin| message.starts_with(begin))
}

/// Matches publickey authentication (RFC 4252, 7): the session identifier, which is a hash after its length, then the
/// message number. One random in 2^37 matches.
fn is_ssh(message: &[u8]) -> bool {
    const USERAUTH_REQUEST: u8 = 50;
    let Some(([0, 0, 0, length @ (20 | 32 | 48 | 64)], rest)) = message.split_first_chunk::<4>() else {
        return false;
    };
    rest.get(usize::from(*length)) == Some(&USERAUTH_REQUEST)
}

/// Matches the first message of IKEv2 (RFC 7296, 2.15 and 3.1), with which the signed data begins: version 2 with any
/// minor version, IKE_SA_INIT, message 0. One pair of randoms in 2^43 matches.
fn is_ike(message: &[u8]) -> bool {
    const IKE_SA_INIT: u8 = 34;
    matches!(message.get(17..24), Some([0x20..=0x2f, IKE_SA_INIT, _, 0, 0, 0, 0]))
}

/// Matches a file signature with an SSH key (SSHSIG). One random in 2^48 matches.
fn is_sshsig(message: &[u8]) -> bool {
    message.starts_with(b"SSHSIG")
}

/// Matches the encoding that PASETO and DSSE use to join parts (PAE): the number of parts and the length of the first
/// part, in eight bytes each. One random in 2^118 matches.
fn is_paseto(message: &[u8]) -> bool {
    matches!(message, [0..16, 0, 0, 0, 0, 0, 0, 0, 0..64, 0, 0, 0, 0, 0, 0, 0, ..])
}
