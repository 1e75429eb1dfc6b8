//! Maps luassl's `OP_` constants, by name, to OpenSSL's bits (which are the same in every OpenSSL 3).

use luassl_protocol::{ErrorCode, Failure};
use openssl::ssl::SslOptions;

const fn bit(bit: u32) -> u64 {
    1 << bit
}

/// Options that have an effect on a TLS session of the daemon. The others (DTLS, and kernel TLS, which the pump does
/// not use) are accepted and have no effect, because their bits would have a different meaning here, or no meaning.
const BITS: &[(&str, u64)] = &[
    ("OP_ALL", bit(4) | bit(6) | bit(11) | bit(31)),
    ("OP_NO_SSL_MASK", bit(25) | bit(26) | bit(27) | bit(28) | bit(29)),
    ("OP_NO_EXTENDED_MASTER_SECRET", bit(0)),
    ("OP_CLEANSE_PLAINTEXT", bit(1)),
    ("OP_LEGACY_SERVER_CONNECT", bit(2)),
    ("OP_TLSEXT_PADDING", bit(4)),
    ("OP_SAFARI_ECDHE_ECDSA_BUG", bit(6)),
    ("OP_IGNORE_UNEXPECTED_EOF", bit(7)),
    ("OP_ALLOW_CLIENT_RENEGOTIATION", bit(8)),
    ("OP_DISABLE_TLSEXT_CA_NAMES", bit(9)),
    ("OP_ALLOW_NO_DHE_KEX", bit(10)),
    ("OP_DONT_INSERT_EMPTY_FRAGMENTS", bit(11)),
    ("OP_NO_TICKET", bit(14)),
    ("OP_CISCO_ANYCONNECT", bit(15)),
    ("OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION", bit(16)),
    ("OP_NO_COMPRESSION", bit(17)),
    ("OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION", bit(18)),
    ("OP_NO_ENCRYPT_THEN_MAC", bit(19)),
    ("OP_ENABLE_MIDDLEBOX_COMPAT", bit(20)),
    ("OP_PRIORITIZE_CHACHA", bit(21)),
    ("OP_CIPHER_SERVER_PREFERENCE", bit(22)),
    ("OP_SERVER_PREFERENCE", bit(22)),
    ("OP_TLS_ROLLBACK_BUG", bit(23)),
    ("OP_NO_ANTI_REPLAY", bit(24)),
    ("OP_NO_SSLv3", bit(25)),
    ("OP_NO_TLSv1", bit(26)),
    ("OP_NO_TLSv1_2", bit(27)),
    ("OP_NO_TLSv1_1", bit(28)),
    ("OP_NO_TLSv1_3", bit(29)),
    ("OP_NO_RENEGOTIATION", bit(30)),
    ("OP_CRYPTOPRO_TLSEXT_BUG", bit(31)),
    ("OP_NO_TX_CERTIFICATE_COMPRESSION", bit(32)),
    ("OP_NO_RX_CERTIFICATE_COMPRESSION", bit(33)),
    ("OP_PREFER_NO_DHE_KEX", bit(35)),
    ("OP_LEGACY_EC_POINT_FORMATS", bit(36)),
];

/// Options that have no effect here.
#[cfg(test)]
const WITHOUT_EFFECT: &[&str] = &[
    "OP_NO_DTLS_MASK",
    "OP_NO_DTLSv1",
    "OP_NO_DTLSv1_2",
    "OP_NO_QUERY_MTU",
    "OP_COOKIE_EXCHANGE",
    "OP_ENABLE_KTLS",
    "OP_ENABLE_KTLS_TX_ZEROCOPY_SENDFILE",
];

/// Without this option, a peer's compressed certificates would be unpacked and parsed before they could be checked.
const NO_COMPRESSED_CERTIFICATES: SslOptions = SslOptions::from_bits_retain(bit(33) as _);

/// The options of every context: no compression, no compressed certificates of peers, and no resumption in a
/// renegotiation, because its purpose is new keys or a client's certificate.
const ALWAYS: SslOptions = SslOptions::NO_COMPRESSION
    .union(SslOptions::NO_SESSION_RESUMPTION_ON_RENEGOTIATION)
    .union(NO_COMPRESSED_CERTIFICATES);

/// Allows a peer to request a renegotiation. OpenSSL uses it only in a server; here it applies to both roles.
pub(crate) const ALLOW_RENEGOTIATION: SslOptions = SslOptions::from_bits_retain(bit(8) as _);

/// Returns OpenSSL's options for a sum of luassl's constants, and the options of every context.
///
/// # Errors
/// `Invalid`, which names the bit, for a sum that is not one of luassl's.
pub(crate) fn options(sum: Option<u64>) -> Result<SslOptions, Failure> {
    let names = luassl_protocol::option_names(sum.unwrap_or(0))
        .map_err(|error| Failure::new(ErrorCode::Invalid, error.to_string()))?;
    let bits = names.fold(0, |bits, name| bits | bits_of(name));
    Ok(SslOptions::from_bits_retain(bits as _) | ALWAYS)
}

fn bits_of(name: &str) -> u64 {
    BITS.iter().find(|(known, _)| *known == name).map_or(0, |(_, bits)| *bits)
}

#[cfg(test)]
mod tests {
    use crate::context::options::{BITS, WITHOUT_EFFECT, bits_of, options};
    use luassl_protocol::{OPTIONS, option_sum};
    use openssl::ssl::SslOptions;

    #[test]
    fn every_constant_has_its_bits_or_is_known_to_have_no_effect() {
        for constant in OPTIONS.iter().filter(|constant| constant.value != 0) {
            let mapped = bits_of(constant.name) != 0;
            assert_ne!(mapped, WITHOUT_EFFECT.contains(&constant.name), "{}", constant.name);
        }
        for (name, _) in BITS {
            assert!(OPTIONS.iter().any(|constant| constant.name == *name && constant.value != 0), "{name}");
        }
    }

    #[test]
    fn bits_are_those_of_the_linked_openssl() {
        for (name, option) in [
            ("OP_NO_TLSv1_2", SslOptions::NO_TLSV1_2),
            ("OP_NO_TLSv1_3", SslOptions::NO_TLSV1_3),
            ("OP_CIPHER_SERVER_PREFERENCE", SslOptions::CIPHER_SERVER_PREFERENCE),
            ("OP_NO_RENEGOTIATION", SslOptions::NO_RENEGOTIATION),
            ("OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION", SslOptions::ALLOW_UNSAFE_LEGACY_RENEGOTIATION),
            ("OP_IGNORE_UNEXPECTED_EOF", SslOptions::IGNORE_UNEXPECTED_EOF),
            ("OP_ENABLE_MIDDLEBOX_COMPAT", SslOptions::ENABLE_MIDDLEBOX_COMPAT),
            ("OP_PRIORITIZE_CHACHA", SslOptions::PRIORITIZE_CHACHA),
            ("OP_NO_SSL_MASK", SslOptions::NO_SSL_MASK),
        ] {
            let sum = option_sum([name]).unwrap();
            assert!(options(Some(sum)).unwrap().contains(option), "{name}");
        }
    }

    #[test]
    fn a_foreign_number_is_refused_by_its_bit() {
        let failure = options(Some(1 << 52)).unwrap_err();
        assert!(failure.message.contains("bit 52"), "{failure}");
    }
}
