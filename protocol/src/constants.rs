//! The constants of the Lua API, with fixed values of luassl. The daemon maps them to OpenSSL's by name. A
//! number of a Lua program, or of a different OpenSSL than the daemon's, is therefore never passed to
//! OpenSSL.
//!
//! Programs add constants, and a sum is not an OR. This determines the order of the bits:
//! - A group (`OP_ALL`) has its own bit, which is lower than every bit of its members. Adding a member does
//!   not carry. Subtracting a member from the group results in a negative number, which is refused.
//! - A block of members ends with a bit that is never assigned. If a member is subtracted from a group beside
//!   a higher option, the subtraction borrows through that bit, and is refused as well.
//! - An option that weakens TLS is above a bit that is never assigned, or beside another such option. A
//!   harmless option that is added twice never results in an option that weakens TLS.
//!
//! Values never change, because a program may have stored one.

/// One named constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constant {
    /// The name in Lua, such as `OP_NO_TLSv1`.
    pub name: &'static str,
    /// luassl's value: 0 for a retired constant, otherwise one bit of its own.
    pub value: u64,
}

/// No verification.
pub const VERIFY_NONE: u64 = 0;
/// Request a certificate from the peer and verify it.
pub const VERIFY_PEER: u64 = 1;
/// A server fails the handshake if the client sends no certificate.
pub const VERIFY_FAIL_IF_NO_PEER_CERT: u64 = 1 << 2;
/// A server requests the certificate once, not again in renegotiations.
pub const VERIFY_CLIENT_ONCE: u64 = 1 << 4;
/// A server requests the certificate after the handshake (TLS 1.3), on request of the program.
pub const VERIFY_POST_HANDSHAKE: u64 = 1 << 6;

/// Every `VERIFY_` constant. Between two bits there is one that is never assigned, so that a constant that is
/// added twice is refused. Otherwise the sum would silently result in weaker verification. The last name is
/// the one in LuaSSL's manual.
pub const VERIFY: &[Constant] = &[
    Constant { name: "VERIFY_NONE", value: VERIFY_NONE },
    Constant { name: "VERIFY_PEER", value: VERIFY_PEER },
    Constant { name: "VERIFY_FAIL_IF_NO_PEER_CERT", value: VERIFY_FAIL_IF_NO_PEER_CERT },
    Constant { name: "VERIFY_CLIENT_ONCE", value: VERIFY_CLIENT_ONCE },
    Constant { name: "VERIFY_POST_HANDSHAKE", value: VERIFY_POST_HANDSHAKE },
    Constant { name: "FAIL_IF_NO_PEER_CERT", value: VERIFY_FAIL_IF_NO_PEER_CERT },
];

/// Every `OP_` constant: those of LuaSSL 1.0, and those of OpenSSL 3.0 to 3.6. If OpenSSL has two names for
/// one bit (the DTLS ones, the two of server preference), they have two bits here, so that both may be added.
pub const OPTIONS: &[Constant] = &[
    // Groups; bits 1, 3 and 5 are never assigned.
    bit("OP_ALL", 0),
    bit("OP_NO_SSL_MASK", 2),
    bit("OP_NO_DTLS_MASK", 4),
    // Bits up to 30 are safe with LuaJIT's bit.bor.
    bit("OP_TLS_ROLLBACK_BUG", 6),
    bit("OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION", 7),
    bit("OP_CIPHER_SERVER_PREFERENCE", 8),
    bit("OP_SERVER_PREFERENCE", 9),
    bit("OP_PRIORITIZE_CHACHA", 10),
    bit("OP_NO_TICKET", 11),
    bit("OP_NO_COMPRESSION", 12),
    bit("OP_NO_RENEGOTIATION", 13),
    bit("OP_ENABLE_MIDDLEBOX_COMPAT", 14),
    // Members of OP_NO_SSL_MASK; bit 20 is never assigned.
    bit("OP_NO_SSLv3", 15),
    bit("OP_NO_TLSv1", 16),
    bit("OP_NO_TLSv1_1", 17),
    bit("OP_NO_TLSv1_2", 18),
    bit("OP_NO_TLSv1_3", 19),
    // Members of OP_NO_DTLS_MASK; bit 23 is never assigned.
    bit("OP_NO_DTLSv1", 21),
    bit("OP_NO_DTLSv1_2", 22),
    // Members of OP_ALL; bit 28 is never assigned.
    bit("OP_CRYPTOPRO_TLSEXT_BUG", 24),
    bit("OP_TLSEXT_PADDING", 25),
    bit("OP_SAFARI_ECDHE_ECDSA_BUG", 26),
    bit("OP_DONT_INSERT_EMPTY_FRAGMENTS", 27),
    bit("OP_CLEANSE_PLAINTEXT", 29),
    bit("OP_DISABLE_TLSEXT_CA_NAMES", 30),
    bit("OP_NO_QUERY_MTU", 31),
    bit("OP_COOKIE_EXCHANGE", 32),
    bit("OP_NO_TX_CERTIFICATE_COMPRESSION", 33),
    bit("OP_NO_RX_CERTIFICATE_COMPRESSION", 34),
    bit("OP_ENABLE_KTLS", 35),
    bit("OP_ENABLE_KTLS_TX_ZEROCOPY_SENDFILE", 36),
    bit("OP_CISCO_ANYCONNECT", 37),
    // Options that weaken TLS; bit 38 is never assigned, 49 to 52 are free.
    bit("OP_LEGACY_SERVER_CONNECT", 39),
    bit("OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION", 40),
    bit("OP_ALLOW_CLIENT_RENEGOTIATION", 41),
    bit("OP_IGNORE_UNEXPECTED_EOF", 42),
    bit("OP_NO_EXTENDED_MASTER_SECRET", 43),
    bit("OP_NO_ENCRYPT_THEN_MAC", 44),
    bit("OP_NO_ANTI_REPLAY", 45),
    bit("OP_ALLOW_NO_DHE_KEX", 46),
    bit("OP_PREFER_NO_DHE_KEX", 47),
    bit("OP_LEGACY_EC_POINT_FORMATS", 48),
    retired("OP_MICROSOFT_SESS_ID_BUG"),
    retired("OP_NETSCAPE_CHALLENGE_BUG"),
    retired("OP_NETSCAPE_REUSE_CIPHER_CHANGE_BUG"),
    retired("OP_SSLREF2_REUSE_CERT_TYPE_BUG"),
    retired("OP_MICROSOFT_BIG_SSLV3_BUFFER"),
    retired("OP_MSIE_SSLV2_RSA_PADDING"),
    retired("OP_SSLEAY_080_CLIENT_DH_BUG"),
    retired("OP_TLS_D5_BUG"),
    retired("OP_TLS_BLOCK_PADDING_BUG"),
    retired("OP_SINGLE_ECDH_USE"),
    retired("OP_SINGLE_DH_USE"),
    retired("OP_EPHEMERAL_RSA"),
    retired("OP_NO_SSLv2"),
    retired("OP_PKCS1_CHECK_1"),
    retired("OP_PKCS1_CHECK_2"),
    retired("OP_NETSCAPE_CA_DN_BUG"),
    retired("OP_NETSCAPE_DEMO_CIPHER_CHANGE_BUG"),
];

const fn bit(name: &'static str, bit: u32) -> Constant {
    Constant { name, value: 1 << bit }
}

const fn retired(name: &'static str) -> Constant {
    Constant { name, value: 0 }
}

/// The error that a sum contains a bit without a constant. The number is from another source, a constant was
/// added twice, or one was subtracted that was not in the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{sum} is not a sum of {prefix} constants: no constant has bit {bit} ({}), the nearest is {nearest}; \
     add each constant once, or use a list of names",
    1u64 << bit
)]
pub struct UnknownBit {
    /// `OP_` or `VERIFY_`.
    pub prefix: &'static str,
    /// The given sum.
    pub sum: u64,
    /// Its lowest unknown bit, from 0.
    pub bit: u32,
    /// The constant with the nearest value to that bit's.
    pub nearest: &'static str,
}

/// The error that a name is not the name of a constant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {prefix} constant {name:?}; the nearest is {nearest}")]
pub struct UnknownName {
    /// `OP_` or `VERIFY_`.
    pub prefix: &'static str,
    /// The given name.
    pub name: String,
    /// The constant with the most similar spelling.
    pub nearest: &'static str,
}

/// The error that a number from Lua cannot be a sum of constants.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "{number} is not a sum of constants{}; use a list of names",
    if *.number < 0.0 { " (constants cannot be subtracted from OP_ALL or another group)" } else { "" }
)]
pub struct NotASum {
    /// The given number.
    pub number: f64,
}

/// Checks a number from Lua (a double) before it is used as a sum. [`option_names`] and [`verify_names`]
/// check the bits.
///
/// # Errors
/// Returns [`NotASum`] for a negative number, a fraction, infinity, NaN, and 2^53 or more, where doubles skip
/// integers.
pub fn sum_from_number(number: f64) -> Result<u64, NotASum> {
    const BOUND: f64 = 9_007_199_254_740_992.0; // 2^53
    if (0.0..BOUND).contains(&number) && number.fract() == 0.0 {
        return Ok(number as u64);
    }
    Err(NotASum { number })
}

/// Returns the names in a sum of `OP_` constants, as in [`OPTIONS`]. A group is returned by its own name.
/// Retired constants are not part of a sum.
///
/// # Errors
/// Returns [`UnknownBit`] for a bit that no option has.
pub fn option_names(sum: u64) -> Result<impl Iterator<Item = &'static str>, UnknownBit> {
    names("OP_", OPTIONS, sum)
}

/// Returns the sum of the named `OP_` constants. A name may occur more than once. A name is written as in Lua
/// (`OP_NO_SSLv3`), without its prefix (`NO_SSLv3`), or as in LuaSec (`no_sslv3`).
///
/// # Errors
/// Returns [`UnknownName`] for a name that no option has.
pub fn option_sum<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<u64, UnknownName> {
    sum("OP_", OPTIONS, names)
}

/// Returns the names in a sum of `VERIFY_` constants. There are no names for [`VERIFY_NONE`].
///
/// # Errors
/// Returns [`UnknownBit`] for a bit that no such constant has.
pub fn verify_names(sum: u64) -> Result<impl Iterator<Item = &'static str>, UnknownBit> {
    names("VERIFY_", VERIFY, sum)
}

/// Returns the sum of the named `VERIFY_` constants. Names are written as for [`option_sum`].
///
/// # Errors
/// Returns [`UnknownName`] for a name that no such constant has.
pub fn verify_sum<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<u64, UnknownName> {
    sum("VERIFY_", VERIFY, names)
}

fn names(
    prefix: &'static str,
    table: &'static [Constant],
    sum: u64,
) -> Result<impl Iterator<Item = &'static str>, UnknownBit> {
    let known = table.iter().fold(0, |bits, constant| bits | constant.value);
    if sum & !known != 0 {
        let bit = (sum & !known).trailing_zeros();
        return Err(UnknownBit { prefix, sum, bit, nearest: nearest_value(table, 1 << bit) });
    }
    // An alias has the bit of another constant and lacks the prefix. It is not returned in addition.
    let named = table.iter().filter(move |constant| constant.name.starts_with(prefix));
    Ok(named.filter(move |constant| sum & constant.value != 0).map(|constant| constant.name))
}

fn nearest_value(table: &'static [Constant], value: u64) -> &'static str {
    let nearest = table.iter().min_by_key(|constant| constant.value.abs_diff(value));
    nearest.map_or("", |constant| constant.name)
}

fn sum<S: AsRef<str>>(
    prefix: &'static str,
    table: &'static [Constant],
    names: impl IntoIterator<Item = S>,
) -> Result<u64, UnknownName> {
    names.into_iter().try_fold(0, |sum, name| Ok(sum | value(prefix, table, name.as_ref())?))
}

fn value(prefix: &'static str, table: &'static [Constant], name: &str) -> Result<u64, UnknownName> {
    let found = table.iter().find(|constant| {
        let bare = bare(prefix, constant.name);
        name == constant.name || name == bare || name == bare.to_ascii_lowercase()
    });
    found.map(|constant| constant.value).ok_or_else(|| UnknownName {
        prefix,
        name: name.to_owned(),
        nearest: nearest_name(prefix, table, name),
    })
}

fn nearest_name(prefix: &str, table: &'static [Constant], name: &str) -> &'static str {
    // A client may send a name of any length. Only a prefix of it is compared.
    let given: String = bare(prefix, name).chars().take(64).collect::<String>().to_ascii_lowercase();
    let distance = |constant: &&Constant| {
        strsim::osa_distance(&bare(prefix, constant.name).to_ascii_lowercase(), &given)
    };
    table.iter().min_by_key(distance).map_or("", |constant| constant.name)
}

fn bare<'a>(prefix: &str, name: &'a str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}
