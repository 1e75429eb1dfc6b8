//! The protocol versions of a context: the range that its client requests, restricted by the grant's floor.

use crate::context::options::options;
use luassl_protocol::{ContextSpec, ErrorCode, Failure, ProtocolVersion};
use openssl::ssl::{SslOptions, SslVersion};

/// A range that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) lowest: ProtocolVersion,
    pub(crate) highest: ProtocolVersion,
}

/// Returns OpenSSL's number for a version.
pub(crate) fn number(version: ProtocolVersion) -> SslVersion {
    match version {
        ProtocolVersion::Tls12 => SslVersion::TLS1_2,
        ProtocolVersion::Tls13 => SslVersion::TLS1_3,
    }
}

fn name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::Tls12 => "TLSv1.2",
        ProtocolVersion::Tls13 => "TLSv1.3",
    }
}

/// Returns the versions that remain.
///
/// # Errors
/// `Invalid` if none remains, `Refused` if that is because of the floor.
pub(crate) fn versions(spec: &ContextSpec, floor: ProtocolVersion) -> Result<Versions, Failure> {
    let options = options(spec.options)?;
    let wanted = |version| {
        let switched_off = match version {
            ProtocolVersion::Tls12 => SslOptions::NO_TLSV1_2,
            ProtocolVersion::Tls13 => SslOptions::NO_TLSV1_3,
        };
        spec.minimum_protocol.is_none_or(|minimum| version >= minimum)
            && spec.maximum_protocol.is_none_or(|maximum| version <= maximum)
            && !options.contains(switched_off)
    };
    let all = [ProtocolVersion::Tls12, ProtocolVersion::Tls13];
    let wanted: Vec<_> = all.into_iter().filter(|&version| wanted(version)).collect();
    let Some(&highest) = wanted.last() else {
        let message =
            "minimum, maximum and options leave no protocol version; TLSv1.2 and TLSv1.3 are spoken";
        return Err(Failure::new(ErrorCode::Invalid, message));
    };
    let Some(&lowest) = wanted.iter().find(|&&version| version >= floor) else {
        let message =
            format!("{} at most is asked for, and the grant allows {} at least", name(highest), name(floor));
        return Err(Failure::new(ErrorCode::Refused, message));
    };
    Ok(Versions { lowest, highest })
}

#[cfg(test)]
mod tests {
    use crate::context::versions::{Versions, versions};
    use luassl_protocol::ProtocolVersion::{Tls12, Tls13};
    use luassl_protocol::{ContextSpec, ErrorCode, option_sum};

    #[test]
    fn a_floor_tightens_and_never_loosens() {
        let any = ContextSpec::default();
        assert_eq!(versions(&any, Tls12).unwrap(), Versions { lowest: Tls12, highest: Tls13 });
        assert_eq!(versions(&any, Tls13).unwrap(), Versions { lowest: Tls13, highest: Tls13 });
        let high = ContextSpec { minimum_protocol: Some(Tls13), ..ContextSpec::default() };
        assert_eq!(versions(&high, Tls12).unwrap(), Versions { lowest: Tls13, highest: Tls13 });
    }

    #[test]
    fn an_empty_range_is_refused() {
        let low = ContextSpec { maximum_protocol: Some(Tls12), ..ContextSpec::default() };
        assert_eq!(versions(&low, Tls13).unwrap_err().code, ErrorCode::Refused);
        let off = option_sum(["OP_NO_TLSv1_3"]).unwrap();
        let off = ContextSpec { options: Some(off), minimum_protocol: Some(Tls13), ..ContextSpec::default() };
        assert_eq!(versions(&off, Tls12).unwrap_err().code, ErrorCode::Invalid);
        let all = option_sum(["OP_NO_SSL_MASK"]).unwrap();
        let all = ContextSpec { options: Some(all), ..ContextSpec::default() };
        assert_eq!(versions(&all, Tls12).unwrap_err().code, ErrorCode::Invalid);
    }

    #[test]
    fn options_that_switch_a_version_off_count() {
        let off = option_sum(["OP_NO_TLSv1_2"]).unwrap();
        let off = ContextSpec { options: Some(off), ..ContextSpec::default() };
        assert_eq!(versions(&off, Tls12).unwrap(), Versions { lowest: Tls13, highest: Tls13 });
    }
}
