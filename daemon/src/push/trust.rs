//! Trusts, read whole: a front opens no file, so what OpenSSL would look up by hash is handed over in full.

use super::system_trust;
use crate::config::{Config, Finding, Trust};
use crate::settings::TrustSettings;
use serde_bytes::ByteBuf;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// One trust, in bytes: a hundred times the usual system bundle.
const MAX_TRUST: u64 = 16 << 20;
/// Files of one directory.
const MAX_FILES: usize = 20_000;
/// The trust that is always there.
const SYSTEM: &str = "system";

/// Trusts by name.
pub type Trusts = BTreeMap<String, TrustSettings>;

/// Reads every trust of `config` and the operating system's. One that cannot be read is left out, or stays as it is in
/// `former`, with an error; it does not harm the others.
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
    trusts.insert(SYSTEM.to_owned(), read_system());
    (trusts, findings)
}

fn read_trust(name: &str, trust: &Trust) -> Result<TrustSettings, Finding> {
    let mut reader = Reader::default();
    let fault = |path: &Path, error: io::Error| {
        Finding::error(
            trust.place.clone(),
            format!("trust `{name}`: {} cannot be read: {error}", path.display()),
        )
        .hint("check the path, and that luassl's supervisor may read it")
    };
    if let Some(file) = &trust.file {
        reader.certificates(file).map_err(|error| fault(file, error))?;
    }
    if let Some(directory) = &trust.directory {
        reader.directory(directory).map_err(|error| fault(directory, error))?;
    }
    if let Some(crl) = &trust.crl {
        reader.crl(crl).map_err(|error| fault(crl, error))?;
    }
    if reader.seen.is_empty() {
        let cause = format!("trust `{name}` has no certificate in its files");
        return Err(Finding::error(trust.place.clone(), cause).hint("name files with PEM certificates"));
    }
    Ok(reader.settings)
}

/// What is there of the system's. A system without any trusts nobody, and the front says so to who asks.
fn read_system() -> TrustSettings {
    let mut reader = Reader::default();
    let file = reader.certificates(&system_trust::file());
    let directory = reader.directory(&system_trust::directory());
    for error in [file, directory].into_iter().filter_map(Result::err) {
        tracing::debug!("the system's certificates: {error}");
    }
    reader.settings
}

#[derive(Default)]
struct Reader {
    settings: TrustSettings,
    /// Certificates that are in already: a directory and a bundle usually hold the same ones.
    seen: HashSet<Vec<u8>>,
    bytes: u64,
}

impl Reader {
    fn certificates(&mut self, path: &Path) -> io::Result<()> {
        let bytes = self.read(path)?;
        let before = self.seen.len();
        self.seen.extend(certificates_in(&bytes).map(<[u8]>::to_vec));
        if self.seen.len() > before {
            self.settings.certificates.push(ByteBuf::from(bytes));
        }
        Ok(())
    }

    fn crl(&mut self, path: &Path) -> io::Result<()> {
        let bytes = self.read(path)?;
        self.settings.crls.push(ByteBuf::from(bytes));
        Ok(())
    }

    /// A directory as `openssl rehash` makes it: what its links name. Without such links, every `.pem` and `.crt`.
    fn directory(&mut self, directory: &Path) -> io::Result<()> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)?
            .take(MAX_FILES)
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        paths.sort();
        let hashed: Vec<(&PathBuf, Hashed)> =
            paths.iter().filter_map(|path| Some((path, Hashed::of(path)?))).collect();
        for (path, kind) in &hashed {
            match kind {
                Hashed::Certificate => self.certificates(path)?,
                Hashed::Crl => self.crl(path)?,
            }
        }
        if hashed.is_empty() {
            let named = |path: &&PathBuf| path.extension().is_some_and(|end| end == "pem" || end == "crt");
            for path in paths.iter().filter(named) {
                self.certificates(path)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_TRUST + 1 - self.bytes).read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_TRUST {
            return Err(io::Error::other(format!("more than {MAX_TRUST} bytes of certificates")));
        }
        Ok(bytes)
    }
}

/// What a link of a hashed directory leads to (openssl-rehash(1)): `HHHHHHHH.N` or `HHHHHHHH.rN`.
#[derive(Debug, PartialEq, Eq)]
enum Hashed {
    Certificate,
    Crl,
}

impl Hashed {
    fn of(path: &Path) -> Option<Self> {
        let (hash, number) = path.file_name()?.to_str()?.split_once('.')?;
        let is_hash = hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (kind, number) =
            number.strip_prefix('r').map_or((Self::Certificate, number), |number| (Self::Crl, number));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        (is_hash && is_number).then_some(kind)
    }
}

/// The PEM certificates in a file, each without the lines around it.
pub fn certificates_in(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let mut rest = pem;
    std::iter::from_fn(move || {
        let start = find(rest, BEGIN)? + BEGIN.len();
        let length = find(&rest[start..], END)?;
        let body = rest[start..start + length].trim_ascii();
        rest = &rest[start + length + END.len()..];
        Some(body)
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Request, load_text};

    fn pem(body: &str) -> String {
        format!("text before\n-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    fn config(text: &str) -> Config {
        load_text(Path::new("/x.toml"), text, &Request::default()).config.expect("a good configuration")
    }

    #[test]
    fn a_hashed_directory_is_read_whole_and_nothing_twice() {
        let directory = tempfile::tempdir().expect("a directory");
        let write =
            |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
        write("bundle.pem", &(pem("one") + &pem("two")));
        write("0a1b2c3d.0", &pem("one"));
        write("0a1b2c3d.1", &pem("three"));
        write("0a1b2c3d.r0", "a crl");
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
             hint: check the path, and that luassl's supervisor may read it"
        );
        let known = TrustSettings { certificates: vec![ByteBuf::from(*b"x")], crls: vec![] };
        former.insert("t".to_owned(), known.clone());
        assert_eq!(read_trusts(&config, Some(&former)).0["t"], known);
    }

    #[test]
    fn only_hashed_names_are_hashed() {
        assert_eq!(Hashed::of(Path::new("/d/0a1b2c3d.0")), Some(Hashed::Certificate));
        assert_eq!(Hashed::of(Path::new("/d/0a1b2c3d.r12")), Some(Hashed::Crl));
        for name in ["0a1b2c3d", "0a1b2c3.0", "0a1b2c3d.", "0a1b2c3d.r", "0a1b2c3d.pem", "zzzzzzzz.0"] {
            assert_eq!(Hashed::of(Path::new(name)), None, "{name}");
        }
    }
}
