//! Facts about a chain for the operator: its dates, its names and its errors.

use luassl_keeper_ipc::admin::Fault;
use luassl_tls as tls;
use luassl_tls::chain::{Chain, ChainFault, issued, reason};
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::{GeneralNameRef, X509, X509Ref};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The operator is warned about a certificate that expires within this time.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The facts about a chain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The leaf's validity, in seconds since 1970; zeros for a bare key.
    pub(crate) validity: (i64, i64),
    /// The leaf's host names and addresses.
    pub(crate) names: Vec<String>,
    /// Warnings for the operator: the cause, a colon, and the remedy.
    pub(crate) warnings: Vec<String>,
}

/// Why an identity with this chain must not be served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) kind: Fault,
    pub(crate) reason: String,
}

impl From<ChainFault> for Unfit {
    fn from(fault: ChainFault) -> Self {
        let kind = match fault {
            ChainFault::Unreadable(_) => Fault::BadCertificate,
            ChainFault::NotOfKey => Fault::Mismatch,
        };
        Self { kind, reason: fault.to_string() }
    }
}

/// Checks the certificates that the keeper has for a key.
///
/// # Errors
/// Returns [`Unfit`] if an identity with this chain must not be served.
pub(crate) fn look(certificates: &[&[u8]], key_id: &[u8; 32]) -> Result<Facts, Unfit> {
    tls::prepare_to_parse().map_err(|error| Unfit { kind: Fault::Internal, reason: error.to_string() })?;
    let chain = Chain::of(certificates, key_id)?;
    let Some(leaf) = chain.certificates.first() else { return Ok(Facts::default()) };
    let dates = tls::without_error_queue(|| validities(&chain.certificates))?;
    let mut warnings: Vec<String> = chain_warnings(&chain).map(str::to_owned).collect();
    warnings.extend(date_warnings(&dates, now()));
    Ok(Facts { validity: dates.first().copied().unwrap_or_default(), names: names(leaf), warnings })
}

fn chain_warnings(chain: &Chain) -> impl Iterator<Item = &'static str> {
    order_warning(chain.in_order, chain.left).into_iter().chain(gap_warning(&chain.certificates))
}

fn order_warning(in_order: bool, left: usize) -> Option<&'static str> {
    match (in_order, left) {
        (true, 0) => None,
        (false, 0) => Some("the certificates are not in issuing order; they are sent in the correct order"),
        _ => Some("certificates that do not belong to this chain are ignored: remove them from the file"),
    }
}

/// Returns a warning if the chain is incomplete. Roots are not known here, but a certificate that contains
/// the location of its issuer's certificate was not issued by a root.
fn gap_warning(chain: &[X509]) -> Option<&'static str> {
    let [leaf] = chain else { return None };
    let gap = leaf.authority_info().is_some() && !issued(leaf, leaf);
    gap.then_some("the chain is incomplete: add the issuer's certificate after this one (fullchain.pem)")
}

/// Returns the host names and IP addresses among the subject alternative names.
fn names(leaf: &X509Ref) -> Vec<String> {
    let names = tls::without_error_queue(|| leaf.subject_alt_names());
    names.into_iter().flatten().filter_map(|name| text(&name)).collect()
}

fn text(name: &GeneralNameRef) -> Option<String> {
    if let Some(host) = name.dnsname() {
        return Some(host.escape_debug().to_string()).filter(|host| !host.is_empty());
    }
    let address = name.ipaddress()?;
    let v4 = <[u8; 4]>::try_from(address).map(|address| Ipv4Addr::from(address).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(address).map(|address| Ipv6Addr::from(address).to_string())).ok()
}

fn validities(chain: &[X509]) -> Result<Vec<(i64, i64)>, Unfit> {
    let dates = chain.iter().map(|one| Ok((seconds(one.not_before())?, seconds(one.not_after())?)));
    dates.collect::<Result<_, ErrorStack>>().map_err(|error| Unfit {
        kind: Fault::BadCertificate,
        reason: format!("a certificate has no readable dates: {}", reason(&error)),
    })
}

fn seconds(date: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(date)?;
    Ok(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Returns warnings about dates. The leaf comes first. For the other certificates, only errors that already
/// exist are reported.
fn date_warnings(dates: &[(i64, i64)], now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, (before, after)) in dates.iter().enumerate() {
        let which = if index == 0 { "the certificate" } else { "an issuer's certificate in the chain" };
        let soon = EXPIRES_SOON.as_secs().cast_signed();
        if *after < now {
            warnings.push(format!("{which} expired {} ago: renew it", days(now - after)));
        } else if *before > now {
            warnings.push(format!(
                "{which} is not valid before {} from now: check the clock",
                days(before - now)
            ));
        } else if after - now < soon && index == 0 {
            warnings.push(format!("{which} expires in {}: renew it", days(after - now)));
        }
    }
    warnings
}

fn days(seconds: i64) -> String {
    match seconds / 86_400 {
        0 => format!("{} hours", seconds / 3600),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::sha::sha256;
    use std::process::Command;

    const DAY: i64 = 86_400;

    fn warnings(dates: &[(i64, i64)]) -> Vec<String> {
        date_warnings(dates, 1_000 * DAY)
    }

    #[test]
    fn good_dates_are_not_warned_of() {
        assert!(warnings(&[(0, 1_014 * DAY), (0, 1_001 * DAY)]).is_empty());
        assert!(warnings(&[]).is_empty());
    }

    #[test]
    fn each_bad_date_has_its_warning() {
        let expired = warnings(&[(0, 997 * DAY)]);
        assert_eq!(expired, ["the certificate expired 3 days ago: renew it"]);
        let early = warnings(&[(1_001 * DAY, 2_000 * DAY)]);
        assert_eq!(early, ["the certificate is not valid before 1 day from now: check the clock"]);
        let soon = warnings(&[(0, 1_014 * DAY - 1)]);
        assert_eq!(soon, ["the certificate expires in 13 days: renew it"]);
        let issuer = warnings(&[(0, 2_000 * DAY), (0, 1_000 * DAY - 7200)]);
        assert_eq!(issuer, ["an issuer's certificate in the chain expired 2 hours ago: renew it"]);
    }

    fn key_id(certificate: &X509Ref) -> [u8; 32] {
        sha256(&certificate.public_key().and_then(|key| key.public_key_to_der()).expect("DER"))
    }

    /// A directory whose files were created by a shell script with the openssl command.
    struct Made(tempfile::TempDir);

    impl Made {
        fn by(script: &str) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let output = Command::new("sh").args(["-euc", script]).current_dir(directory.path()).output();
            let output = output.expect("sh runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Self(directory)
        }

        fn read(&self, file: &str) -> Vec<u8> {
            std::fs::read(self.0.path().join(file)).expect(file)
        }

        /// Returns the result for these files of one certificate each, as the chain of the key of leaf.crt.
        fn look(&self, files: &[&str]) -> Result<Facts, Unfit> {
            let own = X509::from_pem(&self.read("leaf.crt")).expect("a certificate");
            let der =
                |file: &&str| X509::from_pem(&self.read(file)).and_then(|one| one.to_der()).expect("DER");
            let ders: Vec<_> = files.iter().map(der).collect();
            look(&ders.iter().map(Vec::as_slice).collect::<Vec<_>>(), &key_id(&own))
        }

        fn warnings(&self, files: &[&str]) -> Vec<String> {
            self.look(files).expect("a chain").warnings
        }
    }

    const SELF_SIGNED: &str = "self() {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -out $1.crt \
            -subj /CN=$1 -addext subjectAltName=DNS:$1.example,IP:192.0.2.1,IP:2001:db8::1,email:a@b.example -days $2
    }
    ";

    /// Creates root.crt, then middle.crt, then leaf.crt for leaf.key. Each is signed by the one before.
    const AUTHORITY: &str = "issue() {
        openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -subj /CN=$1 -out $1.csr
        openssl x509 -req -in $1.csr -CA $2.crt -CAkey $2.key -days 100 -extfile ext -out $1.crt
    }
    self root 100
    self stranger 100
    printf 'basicConstraints=critical,CA:true\nsubjectKeyIdentifier=hash\n' >ext
    issue middle root
    printf 'authorityInfoAccess=caIssuers;URI:http://example.invalid/issuer\nsubjectAltName=DNS:leaf.example\n' >ext
    issue leaf middle
    ";

    #[test]
    fn a_chain_is_put_in_order_and_looked_at() {
        let made = Made::by(&format!("{SELF_SIGNED}{AUTHORITY}"));
        assert_eq!(made.warnings(&["leaf.crt", "middle.crt"]), [""; 0]);
        assert_eq!(made.warnings(&["leaf.crt", "middle.crt", "root.crt"]), [""; 0]);
        for (files, text) in [
            (&["root.crt", "middle.crt", "leaf.crt"][..], "not in issuing order"),
            (&["leaf.crt", "root.crt", "middle.crt"], "not in issuing order"),
            (&["leaf.crt", "stranger.crt", "middle.crt"], "are ignored"),
            (&["leaf.crt"], "incomplete"),
        ] {
            let warnings = made.warnings(files);
            assert!(warnings.len() == 1 && warnings[0].contains(text), "{files:?}: {warnings:?}");
        }
        let unfit = made.look(&["middle.crt", "root.crt"]).expect_err("another key's");
        assert_eq!(unfit.kind, Fault::Mismatch);
    }

    #[test]
    fn names_and_dates_are_the_leafs() {
        let made = Made::by(&format!("{SELF_SIGNED}self leaf 365"));
        let facts = made.look(&["leaf.crt"]).expect("a chain");
        assert_eq!(facts.names, ["leaf.example", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(facts.validity.1 - facts.validity.0, 365 * DAY);
        assert!(facts.validity.0 <= now() && now() - facts.validity.0 < DAY);
        assert_eq!(facts.warnings, [""; 0]);
        assert_eq!(look(&[], &[0; 32]), Ok(Facts::default()));
    }

    #[test]
    fn dates_are_looked_at() {
        let made = Made::by(
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -subj /CN=leaf -out csr
            touch index; echo 01 >serial
            printf '[ca]\ndefault_ca=c\n[c]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n' >conf
            printf 'policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n' >>conf
            sign() { openssl ca -batch -config conf -selfsign -keyfile leaf.key -in csr -notext \"$@\"; }
            sign -startdate 20200101000000Z -enddate 20210101000000Z -out old
            sign -startdate 20900101000000Z -enddate 20910101000000Z -out new
            sign -days 13 -out soon
            sign -days 15 -out good; cp good leaf.crt",
        );
        assert_eq!(made.warnings(&["good"]), [""; 0]);
        for (file, text) in [("old", "expired"), ("new", "not valid before"), ("soon", "expires in")] {
            let warnings = made.warnings(&[file]);
            assert!(warnings.len() == 1 && warnings[0].contains(text), "{file}: {warnings:?}");
        }
    }

    #[test]
    fn finding_17_what_cannot_be_parsed_is_refused_here() {
        let made = Made::by(&format!("{SELF_SIGNED}self leaf 365"));
        let certificate = X509::from_pem(&made.read("leaf.crt")).expect("a certificate");
        let der = certificate.to_der().expect("DER");
        let key_id = key_id(&certificate);
        assert!(look(&[&der], &key_id).is_ok());
        let cut = &der[..der.len() - 1];
        for chain in [&[cut][..], &[b"garbage"], &[&der, cut]] {
            let unfit = look(chain, &key_id).expect_err("garbage");
            assert_eq!(unfit.kind, Fault::BadCertificate);
            assert!(unfit.reason.starts_with("a certificate in the file cannot be read: "), "{unfit:?}");
        }
        assert_eq!(look(&[&der], &[0; 32]).expect_err("another key").kind, Fault::Mismatch);
    }
}
