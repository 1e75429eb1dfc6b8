//! Cipher strings, cipher suites, groups and Diffie-Hellman parameters.

use crate::ffi::safe_ffi;
use luassl_protocol::{ErrorCode, Failure, FailureReason};
use openssl::pkey::{PKey, Params};
use openssl::ssl::{SslContextBuilder, SslContextRef, SslMethod};
use std::ffi::CString;
use std::sync::OnceLock;

/// Ciphers that no list can enable: those without authentication or without encryption.
const NEVER: &str = ":!aNULL:!eNULL";
/// Disabled unless the grant allows it, because it has no forward secrecy.
const RSA_KEY_EXCHANGE: &str = ":!kRSA:!kRSAPSK";

fn invalid(message: String) -> Failure {
    Failure::new(ErrorCode::Invalid, message)
}

/// Refuses a text with a zero byte, on which the openssl crate would panic because C would truncate it.
fn refuse_nul(what: &str, text: &str) -> Result<(), Failure> {
    if text.contains('\0') { Err(invalid(format!("{what} {text:?} has a zero byte"))) } else { Ok(()) }
}

/// Sets the ciphers of TLS 1.2. Uses OpenSSL's own default list if none is given.
pub(crate) fn set_ciphers(
    context: &mut SslContextBuilder,
    ciphers: Option<&str>,
    rsa_key_exchange: bool,
) -> Result<(), Failure> {
    let given = ciphers.unwrap_or("DEFAULT");
    refuse_nul("cipher string", given)?;
    if context.set_cipher_list(&list(given, rsa_key_exchange)).is_ok() {
        return Ok(());
    }
    if context.set_cipher_list(&list(given, true)).is_ok() {
        return Err(only_rsa(given));
    }
    Err(invalid(format!("cipher string {given:?} selects no cipher; see openssl ciphers -v")))
}

/// Refuses ciphers that lower OpenSSL's own security level (`@SECLEVEL=`). Shorter keys and SHA-1 would then be
/// accepted from peers and used towards them.
pub(crate) fn refuse_lower_level(context: &SslContextRef, ciphers: Option<&str>) -> Result<(), Failure> {
    let (level, least) = (context.security_level(), default_level().unwrap_or(0));
    if level >= least {
        return Ok(());
    }
    let given = ciphers.unwrap_or("DEFAULT");
    let message = format!(
        "cipher string {given:?} lowers OpenSSL's security level to {level}: leave @SECLEVEL= out, or ask for {least} \
         or more"
    );
    Err(Failure::new(ErrorCode::Refused, message))
}

/// Returns the security level of an unmodified context.
fn default_level() -> Option<u32> {
    static LEVEL: OnceLock<Option<u32>> = OnceLock::new();
    let fresh = || SslContextBuilder::new(SslMethod::tls()).ok().map(|fresh| fresh.build().security_level());
    *LEVEL.get_or_init(fresh)
}

fn list(given: &str, rsa_key_exchange: bool) -> String {
    let rsa = if rsa_key_exchange { "" } else { RSA_KEY_EXCHANGE };
    format!("{given}{NEVER}{rsa}")
}

fn only_rsa(given: &str) -> Failure {
    let message =
        format!("cipher string {given:?} has RSA key exchange only, which needs a grant of rsa_key_exchange");
    Failure::new(ErrorCode::Refused, message)
}

/// Sets the cipher suites of TLS 1.3.
pub(crate) fn set_suites(context: &mut SslContextBuilder, suites: Option<&str>) -> Result<(), Failure> {
    let Some(suites) = suites else { return Ok(()) };
    refuse_nul("ciphersuites", suites)?;
    if suites.is_empty() || context.set_ciphersuites(suites).is_err() {
        return Err(invalid(format!(
            "ciphersuites {suites:?} name no cipher suite of TLS 1.3, such as TLS_AES_128_GCM_SHA256"
        )));
    }
    Ok(())
}

/// Sets the groups of the key exchange. From 3.5 on, OpenSSL's own default has X25519MLKEM768 first, with a share for
/// X25519 in addition. A list set here would lose that.
pub(crate) fn set_groups(context: &mut SslContextBuilder, groups: Option<&str>) -> Result<(), Failure> {
    let Some(groups) = groups else { return Ok(()) };
    refuse_nul("groups", groups)?;
    if groups.is_empty() || context.set_groups_list(groups).is_err() {
        return Err(invalid(format!(
            "groups {groups:?} has a group that this OpenSSL does not know; X25519, P-256 and P-384 are known"
        )));
    }
    Ok(())
}

/// The source of a context's parameters for DHE.
pub(crate) enum DhParameters {
    /// OpenSSL selects parameters that fit the key.
    Automatic,
    /// The given parameters.
    Given(PKey<Params>),
    /// No parameters: a server does not offer DHE. A client still accepts a server's parameters.
    None,
}

impl DhParameters {
    /// Returns these parameters if DHE is offered, else no parameters.
    pub(crate) fn offered_if(self, offered: bool) -> Self {
        if offered { self } else { Self::None }
    }

    pub(crate) fn is_offered(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// The groups of RFC 7919.
const NAMED: [&str; 5] = ["ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"];
/// The minimum size of a prime in bits. Smaller primes are broken.
const SMALLEST: u32 = 2048;
/// The maximum size of a prime in bits. Larger primes take seconds in each handshake.
const LARGEST: u32 = 8192;

/// Returns a group of RFC 7919 by its name.
pub(crate) fn named_dh(name: &str) -> Result<DhParameters, Failure> {
    let unknown = || invalid(format!("DH group {name:?} is unknown; known are {}", NAMED.join(", ")));
    if !NAMED.contains(&name) {
        return Err(unknown());
    }
    let group = CString::new(name).map_err(|_| unknown())?;
    safe_ffi::named_dh_parameters(&group).map(DhParameters::Given).map_err(|_| unknown())
}

/// Returns parameters that a client supplied.
pub(crate) fn given_dh(pem: &[u8]) -> Result<DhParameters, Failure> {
    let parameters = safe_ffi::read_dh_parameters(pem).map_err(|_| {
        invalid("the DH parameters are no PEM block of DH PARAMETERS; openssl dhparam makes one".to_owned())
            .because(FailureReason::Pem)
    })?;
    if !matches!(parameters.id(), openssl::pkey::Id::DH | openssl::pkey::Id::DHX) {
        return Err(invalid("the DH parameters are those of another algorithm".to_owned()));
    }
    let bits = safe_ffi::bits(&parameters);
    if !(SMALLEST..=LARGEST).contains(&bits) {
        let message = format!("the DH parameters have {bits} bits; {SMALLEST} to {LARGEST} are taken");
        return Err(invalid(message));
    }
    Ok(DhParameters::Given(parameters))
}

/// Sets the parameters for DHE.
pub(crate) fn set_dh(context: &mut SslContextBuilder, parameters: &DhParameters) -> Result<(), Failure> {
    let result = match parameters {
        DhParameters::Automatic => safe_ffi::choose_dh_parameters(context),
        DhParameters::Given(parameters) => safe_ffi::set_dh_parameters(context, parameters),
        DhParameters::None => Ok(()),
    };
    result.map_err(|error| invalid(format!("the DH parameters cannot be used: {error}")))
}
