//! Public material that the program brings: CA files and hashed directories, chains, CRLs, DH parameters. Read here,
//! with the program's own rights, and sent as bytes.

use luassl_protocol::{
    CERTIFICATE_LABELS, CRL_LABELS, DH_LABELS, Digest, OnKey, PEM_PIECE, PemBlocks, PemFault,
    without_private_keys,
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use zeroize::Zeroizing;

/// The largest file that is read, in bytes: it has to fit one frame of 1 MiB.
const MAX_FILE: u64 = (1 << 20) - 1024;
/// The most bytes of one hashed directory.
const MAX_DIRECTORY: usize = 4 << 20;
/// The most entries of one hashed directory that are read.
const MAX_ENTRIES: usize = 16_384;
/// Files of a directory are joined up to this size, so that it crosses in a few requests.
const JOINED: usize = 256 << 10;

const PEM: &str = "-----BEGIN ";

/// What material is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Certificates.
    Certificates,
    /// Certificate revocation lists.
    Crls,
    /// Diffie-Hellman parameters.
    DhParameters,
}

impl Kind {
    /// The labels of its PEM blocks; the first is the usual one.
    fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Certificates => CERTIFICATE_LABELS,
            Self::Crls => CRL_LABELS,
            Self::DhParameters => DH_LABELS,
        }
    }
}

/// Why material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The file or directory cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More than is sent.
    #[error("{} is above the limit of {limit} bytes", .path.display())]
    TooLarge {
        /// The file or directory.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
    /// A file or a text without what it should have.
    #[error("{origin} has no PEM block that begins with {PEM}{}-----", .kind.labels()[0])]
    NoPem {
        /// The file, or what the text was given as.
        origin: String,
        /// What it should have.
        kind: Kind,
    },
    /// A block of the kind that was asked for is cut off, or has other text in it.
    #[error("{origin}: {fault}")]
    Damaged {
        /// The file, or what the text was given as.
        origin: String,
        /// What is wrong.
        fault: PemFault,
    },
    /// A directory without a name such as `5ed36f99.0`.
    #[error("{} has no certificates with hashed names: run openssl rehash on it", .path.display())]
    NotHashed {
        /// The directory.
        path: PathBuf,
    },
}

/// Bytes of public material, known to the daemon by their digest. A clone shares them.
#[derive(Clone)]
pub struct Material {
    digest: Digest,
    bytes: Rc<[u8]>,
    origin: Rc<str>,
}

impl Material {
    /// Material that is at hand; `origin` is for messages. A private key in it (one file for key and chain is
    /// common) stays here.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Self {
        let public = without_private_keys(bytes);
        let digest: [u8; 32] = Sha256::digest(&public).into();
        Self { digest: Digest::new(digest), bytes: public.into(), origin: origin.into() }
    }

    /// The blocks of that kind in a PEM text; anything else names a file of them. No other byte of it is kept, so that
    /// one file for key and chain brings no key into this process.
    ///
    /// # Errors
    /// [`MaterialError`] where that file cannot be read whole, or has nothing of that kind.
    pub fn from_text_or_file(value: &[u8], kind: Kind) -> Result<Self, MaterialError> {
        let (bytes, origin) = if value.windows(PEM.len()).any(|window| window == PEM.as_bytes()) {
            let mut blocks = PemBlocks::new(kind.labels(), OnKey::Skip);
            let origin = "the given text".to_owned();
            (whole(blocks.push(value).and_then(|()| blocks.finish()), &origin)?, origin)
        } else {
            let path = path(value);
            (read(&path, kind)?, path.display().to_string())
        };
        if bytes.is_empty() {
            return Err(MaterialError::NoPem { origin, kind });
        }
        Ok(Self::from_bytes(&bytes, &origin))
    }

    /// Where it comes from, for messages.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A directory of certificates and CRLs under hashed names, as `openssl rehash` makes it.
pub(crate) struct Hashed {
    pub(crate) certificates: Vec<Material>,
    pub(crate) crls: Vec<Material>,
}

impl Hashed {
    pub(crate) fn read(directory: &[u8]) -> Result<Self, MaterialError> {
        let directory = path(directory);
        let joiner = || Joiner { origin: directory.display().to_string(), ..Joiner::default() };
        let (mut certificates, mut crls) = (joiner(), joiner());
        for (name, path) in entries(&directory)? {
            match hashed(&name) {
                Some(Hash::Certificate) => certificates.push(&read(&path, Kind::Certificates)?),
                Some(Hash::Crl) => crls.push(&read(&path, Kind::Crls)?),
                None => {}
            }
            if certificates.total + crls.total > MAX_DIRECTORY {
                return Err(MaterialError::TooLarge { path: directory, limit: MAX_DIRECTORY as u64 });
            }
        }
        if certificates.total == 0 {
            return Err(MaterialError::NotHashed { path: directory });
        }
        Ok(Self { certificates: certificates.finish(), crls: crls.finish() })
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// The blocks of a kind in a file. What is read passes through a buffer that is wiped.
fn read(path: &Path, kind: Kind) -> Result<Vec<u8>, MaterialError> {
    let failed = |source| MaterialError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut piece = Zeroizing::new(vec![0; PEM_PIECE]);
    let mut blocks = PemBlocks::new(kind.labels(), OnKey::Skip);
    let (mut length, mut pushed) = (0, Ok(()));
    while pushed.is_ok() {
        let count = match file.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        length += count as u64;
        if length > MAX_FILE {
            return Err(MaterialError::TooLarge { path: path.to_owned(), limit: MAX_FILE });
        }
        pushed = blocks.push(&piece[..count]);
    }
    whole(pushed.and_then(|()| blocks.finish()), &path.display().to_string())
}

fn whole(blocks: Result<Vec<Vec<u8>>, PemFault>, origin: &str) -> Result<Vec<u8>, MaterialError> {
    blocks
        .map(|blocks| blocks.concat())
        .map_err(|fault| MaterialError::Damaged { origin: origin.to_owned(), fault })
}

/// In the order of their names, so that the same directory gives the same digests.
fn entries(directory: &Path) -> Result<BTreeSet<(String, PathBuf)>, MaterialError> {
    let failed = |source| MaterialError::Read { path: directory.to_owned(), source };
    let listing = std::fs::read_dir(directory).map_err(failed)?;
    let mut entries = BTreeSet::new();
    for entry in listing.take(MAX_ENTRIES) {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.insert((name, entry.path()));
        }
    }
    Ok(entries)
}

enum Hash {
    Certificate,
    Crl,
}

/// `HHHHHHHH.N` is a certificate, `HHHHHHHH.rN` a CRL.
fn hashed(name: &str) -> Option<Hash> {
    let (hash, number) = name.split_once('.')?;
    if hash.len() != 8 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (kind, digits) = match number.strip_prefix('r') {
        Some(digits) => (Hash::Crl, digits),
        None => (Hash::Certificate, number),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(kind)
}

/// Joins PEM files into a few larger ones; each comes once, however many names it has.
#[derive(Default)]
struct Joiner {
    seen: BTreeSet<[u8; 32]>,
    done: Vec<Material>,
    current: Vec<u8>,
    total: usize,
    origin: String,
}

impl Joiner {
    fn push(&mut self, pem: &[u8]) {
        if pem.is_empty() || !self.seen.insert(Sha256::digest(pem).into()) {
            return;
        }
        if self.current.len() + pem.len() > JOINED {
            self.flush();
        }
        self.current.extend_from_slice(pem);
        self.total += pem.len();
    }

    fn flush(&mut self) {
        if !self.current.is_empty() {
            self.done.push(Material::from_bytes(&self.current, &self.origin));
            self.current.clear();
        }
    }

    fn finish(mut self) -> Vec<Material> {
        self.flush();
        self.done
    }
}
