//! Trusts, read completely. A front does not open files, so it receives all certificates that OpenSSL would
//! look up by hash. Only certificates and CRLs are passed on. A private key in the same file does not leave
//! the buffer that it is read into.

use crate::config::{Config, Finding, Location, Trust};
use crate::push::files::walk::{OpenFault, open_trusted};
use crate::push::system_trust;
use luassl_protocol::{CERTIFICATE_LABELS, CRL_LABELS, OnKey, PEM_PIECE, PemBlocks, PemFault};
use luassl_settings::TrustSettings;
use rustix::fs::{Mode, OFlags, open};
use serde_bytes::ByteBuf;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The maximum size of one trust, in bytes: a hundred times that of the usual system bundle.
const MAX_TRUST: u64 = 16 << 20;
/// The maximum number of files of one directory.
const MAX_FILES: usize = 20_000;
/// The name of the trust that always exists.
const SYSTEM: &str = "system";

/// Trusts by name.
pub type Trusts = BTreeMap<String, TrustSettings>;

/// Reads every trust of `config`, and the operating system's. A trust that cannot be read is left out, or is
/// taken from `former`, and an error is reported. It does not affect the others.
pub fn read_trusts(config: &Config, former: Option<&Trusts>) -> (Trusts, Vec<Finding>) {
    let (mut trusts, mut findings) = (Trusts::new(), Vec::new());
    for (name, trust) in &config.trusts {
        match read_trust(name, trust) {
            Ok(settings) => {
                trusts.insert(name.clone(), settings);
            }
            Err(finding) => {
                findings.push(finding);
                if let Some(kept) = former.and_then(|former| former.get(name)) {
                    trusts.insert(name.clone(), kept.clone());
                }
            }
        }
    }
    let (system, warnings) = read_system(&system_trust::file(), &system_trust::directory());
    trusts.insert(SYSTEM.to_owned(), system);
    findings.extend(warnings);
    (trusts, findings)
}

fn read_trust(name: &str, trust: &Trust) -> Result<TrustSettings, Finding> {
    let mut reader = Reader::default();
    let fault = |(path, fault): (PathBuf, Fault)| {
        Finding::error(trust.location.clone(), format!("trust `{name}`: {}", fault.about(&path)))
            .hint(fault.hint())
    };
    if let Some(file) = &trust.file {
        reader.certificates(file, open_trusted).map_err(|error| fault((file.clone(), error)))?;
    }
    if let Some(directory) = &trust.directory {
        let files = listed(directory).map_err(|error| fault((directory.clone(), error.into())))?;
        for (path, kind) in files {
            reader.file(&path, kind, open_trusted).map_err(|error| fault((path, error)))?;
        }
    }
    if let Some(crl) = &trust.crl {
        reader.crl(crl, open_trusted).map_err(|error| fault((crl.clone(), error)))?;
    }
    if reader.seen.is_empty() {
        let cause = format!("the files of trust `{name}` contain no certificate");
        return Err(Finding::error(trust.location.clone(), cause).hint("name files with PEM certificates"));
    }
    Ok(reader.settings)
}

/// Reads the operating system's trust as far as it exists. If it is empty, no certificate is trusted, and the
/// front reports this to callers. The operator does not choose these files individually, so a file with a
/// private key is left out with a warning.
fn read_system(file: &Path, directory: &Path) -> (TrustSettings, Vec<Finding>) {
    let (mut reader, mut findings) = (Reader::default(), Vec::new());
    let files = listed(directory).unwrap_or_else(|error| {
        tracing::debug!("the system's certificates: {}: {error}", directory.display());
        Vec::new()
    });
    for (path, kind) in std::iter::once((file.to_owned(), Kind::Certificate)).chain(files) {
        match reader.file(&path, kind, open_any) {
            Ok(()) => {}
            Err(fault @ Fault::Pem(PemFault::PrivateKey | PemFault::CalledOtherwise)) => {
                let cause = format!("the system's certificates: {}; the file is skipped", fault.about(&path));
                findings.push(Finding::warning(Location::file(&path), cause).hint(fault.hint()));
            }
            Err(fault) => tracing::debug!("the system's certificates: {}", fault.about(&path)),
        }
    }
    (reader.settings, findings)
}

/// The reason why a file of a trust is rejected.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Open(#[from] OpenFault),
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Pem(#[from] PemFault),
    #[error("it contains no CRL in PEM")]
    NoCrl,
}

impl Fault {
    fn about(&self, path: &Path) -> String {
        match self {
            Self::Pem(PemFault::PrivateKey) => format!("{} contains a private key", path.display()),
            Self::Pem(PemFault::CalledOtherwise) => {
                format!("{} contains a private key under another label", path.display())
            }
            _ => format!("{} cannot be read: {self}", path.display()),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Open(fault) => fault.hint(),
            Self::Read(_) => "check the path, and that luassl's supervisor can read it",
            Self::Pem(PemFault::PrivateKey | PemFault::CalledOtherwise) => {
                "trusts go to processes that must not have keys: name a file with only certificates (`openssl x509 -in \
                 FILE -out NEW` writes the first one)"
            }
            Self::Pem(PemFault::Unfinished) => {
                "rewrite the file: each block needs its BEGIN and its END line"
            }
            Self::NoCrl => "name a file with a block that begins with -----BEGIN X509 CRL-----",
        }
    }
}

/// The function that opens a file. For the files of the configuration, it does not follow a user's link to a
/// file of another user.
type Open = fn(&Path) -> Result<OwnedFd, OpenFault>;

fn open_any(path: &Path) -> Result<OwnedFd, OpenFault> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(open(path, flags, Mode::empty())?)
}

#[derive(Default)]
struct Reader {
    settings: TrustSettings,
    /// The certificates that were already added. A directory and a bundle usually contain the same ones.
    seen: HashSet<Vec<u8>>,
    bytes: u64,
}

impl Reader {
    fn file(&mut self, path: &Path, kind: Kind, open: Open) -> Result<(), Fault> {
        match kind {
            Kind::Certificate => self.certificates(path, open),
            Kind::Crl => self.crl(path, open),
        }
    }

    fn certificates(&mut self, path: &Path, open: Open) -> Result<(), Fault> {
        let mut blocks = self.read(path, open, CERTIFICATE_LABELS)?;
        blocks.retain(|block| self.seen.insert(block.clone()));
        if !blocks.is_empty() {
            self.settings.certificates.push(ByteBuf::from(blocks.concat()));
        }
        Ok(())
    }

    fn crl(&mut self, path: &Path, open: Open) -> Result<(), Fault> {
        let blocks = self.read(path, open, CRL_LABELS)?;
        if blocks.is_empty() {
            return Err(Fault::NoCrl);
        }
        self.settings.crls.push(ByteBuf::from(blocks.concat()));
        Ok(())
    }

    /// Returns the blocks with these labels. No other part of the file is kept: it passes through a buffer
    /// that is wiped, and reading stops at a private key.
    fn read(
        &mut self,
        path: &Path,
        open: Open,
        labels: &'static [&'static str],
    ) -> Result<Vec<Vec<u8>>, Fault> {
        let mut file = File::from(open(path)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file").into());
        }
        let mut piece = Zeroizing::new(vec![0; PEM_PIECE]);
        let mut blocks = PemBlocks::new(labels, OnKey::Refuse);
        loop {
            let count = match file.read(&mut piece) {
                Ok(0) => return Ok(blocks.finish()?),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            self.bytes += count as u64;
            if self.bytes > MAX_TRUST {
                return Err(io::Error::other(format!("more than {MAX_TRUST} bytes of certificates")).into());
            }
            blocks.push(&piece[..count])?;
        }
    }
}

/// Returns the files of a directory in the layout of `openssl rehash`: the targets of its links. If there are
/// no such links, returns every `.pem` and `.crt` file.
fn listed(directory: &Path) -> io::Result<Vec<(PathBuf, Kind)>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)?
        .take(MAX_FILES)
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    let hashed: Vec<_> = paths.iter().filter_map(|path| Some((path.clone(), Kind::of(path)?))).collect();
    if !hashed.is_empty() {
        return Ok(hashed);
    }
    let named = |path: &PathBuf| path.extension().is_some_and(|end| end == "pem" || end == "crt");
    Ok(paths.into_iter().filter(named).map(|path| (path, Kind::Certificate)).collect())
}

/// The kind of file behind a link in a hashed directory (openssl-rehash(1)): `HHHHHHHH.N` or `HHHHHHHH.rN`.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Certificate,
    Crl,
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        let (hash, number) = path.file_name()?.to_str()?.split_once('.')?;
        let is_hash = hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (kind, number) =
            number.strip_prefix('r').map_or((Self::Certificate, number), |number| (Self::Crl, number));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        (is_hash && is_number).then_some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Request, Severity, load_text};

    fn pem(body: &str) -> String {
        block("CERTIFICATE", body)
    }

    fn block(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    fn config(text: &str) -> Config {
        load_text(Path::new("/x.toml"), text, &Request::default()).config.expect("a good configuration")
    }

    #[test]
    fn a_hashed_directory_is_read_whole_and_nothing_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        let write =
            |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
        write("bundle.pem", &format!("text before\n{}{}", pem("one"), pem("two")));
        write("0a1b2c3d.0", &pem("one"));
        write("0a1b2c3d.1", &(pem("two") + &pem("three")));
        write("0a1b2c3d.r0", &block("X509 CRL", "list"));
        write("README", &pem("four"));
        let at = directory.path().display();
        let config = config(&format!("[trust.t]\nfile = '{at}/bundle.pem'\ndirectory = '{at}'"));
        let (trusts, findings) = read_trusts(&config, None);
        assert_eq!(findings, []);
        let files: Vec<String> =
            trusts["t"].certificates.iter().map(|file| String::from_utf8_lossy(file).into_owned()).collect();
        assert_eq!(files, [pem("one") + &pem("two"), pem("three")]);
        assert_eq!(trusts["t"].crls.len(), 1);
        assert!(trusts.contains_key("system"));
    }

    #[test]
    fn a_trust_that_cannot_be_read_stays_as_it_was() {
        let config = config("[trust.t]\nfile = '/no/such/file'");
        let mut former = Trusts::new();
        let (trusts, findings) = read_trusts(&config, Some(&former));
        assert!(!trusts.contains_key("t"));
        assert_eq!(
            findings[0].to_string(),
            "error: /x.toml:1: trust `t`: /no/such/file cannot be read: No such file or directory (os error 2)\n\
             hint: check the path, and that luassl's supervisor can read it"
        );
        let known = TrustSettings { certificates: vec![ByteBuf::from(*b"x")], crls: vec![] };
        former.insert("t".to_owned(), known.clone());
        assert_eq!(read_trusts(&config, Some(&former)).0["t"], known);
    }

    #[test]
    fn finding_3_a_trust_with_a_private_key_is_refused_and_nothing_of_it_is_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
            std::fs::write(at.join("both.pem"), pem("one") + &block(label, "secret")).expect("written");
            std::fs::write(at.join("good.pem"), pem("one")).expect("written");
            for key in
                ["file = 'DIR/both.pem'", "directory = 'DIR'", "file = 'DIR/good.pem'\ncrl = 'DIR/both.pem'"]
            {
                let text = format!("[trust.t]\n{}", key.replace("DIR", &at.display().to_string()));
                let (trusts, findings) = read_trusts(&config(&text), None);
                assert!(!trusts.contains_key("t"), "{text}");
                let cause = format!("trust `t`: {}/both.pem contains a private key", at.display());
                assert_eq!((findings[0].cause.as_str(), findings[0].severity), (&*cause, Severity::Error));
            }
        }
        // Positive control.
        std::fs::remove_file(at.join("both.pem")).expect("removed");
        let (trusts, findings) =
            read_trusts(&config(&format!("[trust.t]\ndirectory = '{}'", at.display())), None);
        assert_eq!((trusts["t"].certificates.len(), findings), (1, vec![]));
    }

    #[test]
    fn finding_3_a_file_of_the_systems_with_a_private_key_is_left_out_with_a_warning() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("0a1b2c3d.0"), block("RSA PRIVATE KEY", "secret") + &pem("one")).expect("written");
        std::fs::write(at("0a1b2c3d.1"), pem("two")).expect("written");
        let (trust, findings) = read_system(&at("no-bundle"), directory.path());
        assert_eq!(trust.certificates, [ByteBuf::from(pem("two"))]);
        assert_eq!(findings.len(), 1);
        let cause = format!(
            "the system's certificates: {} contains a private key; the file is skipped",
            at("0a1b2c3d.0").display()
        );
        assert_eq!((findings[0].cause.as_str(), findings[0].severity), (&*cause, Severity::Warning));
    }

    #[test]
    fn a_trust_that_is_cut_off_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("cut.pem");
        std::fs::write(&file, format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n", pem("one"))).expect("written");
        let (trusts, findings) =
            read_trusts(&config(&format!("[trust.t]\nfile = '{}'", file.display())), None);
        assert!(!trusts.contains_key("t"));
        assert!(
            findings[0].cause.ends_with("cannot be read: it contains an incomplete PEM block"),
            "{findings:?}"
        );
    }

    #[test]
    fn only_hashed_names_are_hashed() {
        assert_eq!(Kind::of(Path::new("/d/0a1b2c3d.0")), Some(Kind::Certificate));
        assert_eq!(Kind::of(Path::new("/d/0a1b2c3d.r12")), Some(Kind::Crl));
        for name in ["0a1b2c3d", "0a1b2c3.0", "0a1b2c3d.", "0a1b2c3d.r", "0a1b2c3d.pem", "zzzzzzzz.0"] {
            assert_eq!(Kind::of(Path::new(name)), None, "{name}");
        }
    }
}
