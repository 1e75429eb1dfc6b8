//! Certificates: the development PKI of `scripts/dev-pki.sh`, made once, and single ones with whatever a test needs
//! to be wrong with them.

use crate::repository;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Name, X509Ref};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// The kinds of keys that `scripts/dev-pki.sh` makes.
pub const KEY_TYPES: [&str; 6] = ["rsa", "p256", "p384", "p521", "ed25519", "ed448"];

/// Made anew when older than this.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

static PKI: LazyLock<PathBuf> = LazyLock::new(make);

/// A file of the development PKI, such as `keys/server.pem`.
#[must_use]
pub fn file(name: &str) -> PathBuf {
    PKI.join(name)
}

/// The directory that `--identities` takes.
#[must_use]
pub fn keys() -> PathBuf {
    file("keys")
}

/// Two test binaries may come here at once: one makes it, under a lock, and it appears whole.
fn make() -> PathBuf {
    let directory = repository().join("build/test/pki");
    let script = repository().join("scripts/dev-pki.sh");
    fs::create_dir_all(directory.join("..")).expect("build/test");
    let lock = File::create(directory.with_extension("lock")).expect("the lock file of the PKI");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("the lock of the PKI");
    if !is_fresh(&directory, &script) {
        let _ = fs::remove_dir_all(&directory);
        let made = directory.with_extension("new");
        let _ = fs::remove_dir_all(&made);
        let status = Command::new(&script).arg(&made).status();
        assert!(status.is_ok_and(|status| status.success()), "scripts/dev-pki.sh failed");
        fs::rename(&made, &directory).expect("the PKI's directory");
    }
    directory
}

/// Made by the script as it stands, and not about to expire.
fn is_fresh(directory: &Path, script: &Path) -> bool {
    let modified = |file: &Path| fs::metadata(file).and_then(|file| file.modified());
    let (Ok(made), Ok(written)) = (modified(&directory.join("keys/dhparams.pem")), modified(script)) else {
        return false;
    };
    made >= written && SystemTime::now().duration_since(made).is_ok_and(|age| age < LIFETIME)
}

/// A key and its certificate.
pub struct Pair {
    /// The private key.
    pub key: PKey<Private>,
    /// The certificate.
    pub certificate: X509,
}

impl Pair {
    /// The key as PEM (PKCS#8).
    ///
    /// # Panics
    /// When OpenSSL cannot write it.
    #[must_use]
    pub fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().expect("a key")
    }

    /// The certificate as PEM.
    ///
    /// # Panics
    /// When OpenSSL cannot write it.
    #[must_use]
    pub fn certificate_pem(&self) -> Vec<u8> {
        self.certificate.to_pem().expect("a certificate")
    }

    /// Certificate, then key.
    #[must_use]
    pub fn pem(&self) -> Vec<u8> {
        [self.certificate_pem(), self.key_pem()].concat()
    }
}

/// What goes into a certificate.
pub struct Leaf<'a> {
    /// The common name.
    pub common_name: &'a str,
    /// dNSName entries.
    pub names: &'a [&'a str],
    /// Start of validity, days from now.
    pub from_days: i64,
    /// End of validity, days from now.
    pub to_days: i64,
    /// Whether it may sign others.
    pub authority: bool,
    /// The extended key usages, such as `serverAuth`.
    pub usage: &'static str,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Self {
            common_name: "localhost",
            names: &["localhost"],
            from_days: -1,
            to_days: 30,
            authority: false,
            usage: "serverAuth",
        }
    }
}

/// An issuer of the development PKI: `root` or `server-ca`.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn issuer(name: &str) -> Pair {
    let read = |end: &str| fs::read(file(&format!("ca/{name}.{end}"))).expect("an issuer's file");
    Pair {
        key: private_key(&read("key")),
        certificate: X509::from_pem(&read("crt")).expect("an issuer's certificate"),
    }
}

/// The first private key of a PEM file.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn private_key(pem: &[u8]) -> PKey<Private> {
    #[expect(clippy::disallowed_methods, reason = "peers of the tests have keys of their own")]
    PKey::private_key_from_pem(pem).expect("a private key")
}

/// A new P-256 key.
///
/// # Panics
/// When OpenSSL cannot make one.
#[must_use]
pub fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("P-256");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

/// A certificate for a new P-256 key, signed by `issuer`, or by itself where there is none.
///
/// # Panics
/// When OpenSSL cannot make it.
#[must_use]
pub fn issue(leaf: &Leaf<'_>, issuer: Option<&Pair>) -> Pair {
    issue_for(new_key(), leaf, issuer)
}

/// A certificate for `key`, signed by `issuer`, or by itself where there is none.
///
/// # Panics
/// When OpenSSL cannot make it.
#[must_use]
pub fn issue_for(key: PKey<Private>, leaf: &Leaf<'_>, issuer: Option<&Pair>) -> Pair {
    let certificate = build(&key, leaf, issuer).expect("a certificate");
    Pair { key, certificate }
}

fn build(
    key: &PKey<Private>,
    leaf: &Leaf<'_>,
    issuer: Option<&Pair>,
) -> Result<X509, openssl::error::ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::COMMONNAME, leaf.common_name)?;
    let name = name.build();
    let issuer_name = issuer.map_or(&*name, |issuer| issuer.certificate.subject_name());
    let mut serial = BigNum::new()?;
    serial.rand(120, openssl::bn::MsbOption::MAYBE_ZERO, false)?;

    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(issuer_name)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*days_from_now(leaf.from_days)?)?;
    builder.set_not_after(&*days_from_now(leaf.to_days)?)?;
    add_extensions(&mut builder, leaf, issuer.map(|issuer| &*issuer.certificate))?;
    let signer = issuer.map_or(key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256())?;
    Ok(builder.build())
}

fn add_extensions(
    builder: &mut openssl::x509::X509Builder,
    leaf: &Leaf<'_>,
    issuer: Option<&X509Ref>,
) -> Result<(), openssl::error::ErrorStack> {
    let mut constraints = BasicConstraints::new();
    constraints.critical();
    if leaf.authority {
        constraints.ca();
    }
    builder.append_extension(constraints.build()?)?;
    if !leaf.authority {
        builder.append_extension(ExtendedKeyUsage::new().other(leaf.usage).build()?)?;
    }
    if !leaf.names.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in leaf.names {
            names.dns(name);
        }
        let context = builder.x509v3_context(issuer, None);
        let names = names.build(&context)?;
        builder.append_extension(names)?;
    }
    Ok(())
}

fn days_from_now(days: i64) -> Result<Asn1Time, openssl::error::ErrorStack> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    Asn1Time::from_unix(i64::try_from(now).unwrap_or(i64::MAX) + days * 24 * 3600)
}

/// A certificate revocation list of `issuer` (a name in `ca/`) that has `revoked` on it, PEM.
///
/// # Panics
/// When the openssl command cannot make it.
#[must_use]
pub fn revocation_list(issuer: &str, revoked: &X509Ref) -> Vec<u8> {
    let directory = crate::scratch();
    let serial =
        revoked.serial_number().to_bn().and_then(|number| number.to_hex_str()).expect("a serial number");
    let entry = format!("R\t300101000000Z\t250101000000Z\t{serial}\tunknown\t/CN=revoked\n");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("index"), entry).expect("the CA's index");
    fs::write(at("index.attr"), "unique_subject = no\n").expect("the CA's index");
    fs::write(
        at("ca.cnf"),
        format!(
            "[ca]\ndefault_ca=c\n[c]\ndatabase={}\ndefault_md=sha256\ndefault_crl_days=30\n",
            at("index").display()
        ),
    )
    .expect("the CA's configuration");
    let output = Command::new("openssl")
        .args(["ca", "-gencrl", "-config"])
        .arg(at("ca.cnf"))
        .arg("-keyfile")
        .arg(file(&format!("ca/{issuer}.key")))
        .arg("-cert")
        .arg(file(&format!("ca/{issuer}.crt")))
        .output()
        .expect("the openssl command");
    assert!(output.status.success(), "openssl ca: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
