//! Public material that the program supplies: CA files and hashed directories, chains, CRLs, DH parameters.
//! It is read in this process, with the program's own rights, and sent as bytes.

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

/// The maximum size of a file that is read, in bytes. It must fit into one frame of 1 MiB.
const MAX_FILE: u64 = (1 << 20) - 1024;
/// The maximum number of bytes of one hashed directory.
const MAX_DIRECTORY: usize = 4 << 20;
/// The maximum number of entries of one hashed directory that are read.
const MAX_ENTRIES: usize = 16_384;
/// Files of a directory are joined up to this size, so that they are sent in a few requests.
const JOINED: usize = 256 << 10;

const PEM: &str = "-----BEGIN ";

/// The kind of material.
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
    /// Returns the labels of its PEM blocks. The first one is the usual one.
    fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Certificates => CERTIFICATE_LABELS,
            Self::Crls => CRL_LABELS,
            Self::DhParameters => DH_LABELS,
        }
    }
}

/// The reason why material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The file or directory cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The material exceeds the limit on its size.
    #[error("{} is above the limit of {limit} bytes", .path.display())]
    TooLarge {
        /// The file or directory.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A file or a text does not contain a block of the requested kind.
    #[error("{origin} has no PEM block that begins with {PEM}{}-----", .kind.labels()[0])]
    NoPem {
        /// The file, or a description of the text.
        origin: String,
        /// The requested kind.
        kind: Kind,
    },
    /// A block of the requested kind is incomplete, or contains other text.
    #[error("{origin}: {fault}")]
    Damaged {
        /// The file, or a description of the text.
        origin: String,
        /// The error.
        fault: PemFault,
    },
    /// A directory without a name such as `5ed36f99.0`.
    #[error("{} has no certificates with hashed names: run openssl rehash on it", .path.display())]
    NotHashed {
        /// The directory.
        path: PathBuf,
    },
}

/// Bytes of public material. The daemon identifies them by their digest. A clone shares them.
#[derive(Clone)]
pub struct Material {
    digest: Digest,
    bytes: Rc<[u8]>,
    origin: Rc<str>,
}

impl Material {
    /// Creates material from a text; `origin` is used in messages. A private key in the text is not sent (one
    /// file for key and chain is common).
    #[must_use]
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Self {
        let public = without_private_keys(bytes);
        let digest: [u8; 32] = Sha256::digest(&public).into();
        Self { digest: Digest::new(digest), bytes: public.into(), origin: origin.into() }
    }

    /// Returns the blocks of a kind in a PEM text. A value that is not PEM is the name of a file that
    /// contains them. No other byte of the file is kept, so that the key in a file with key and chain does
    /// not enter this process.
    ///
    /// # Errors
    /// Returns [`MaterialError`] if the file cannot be read completely, or does not contain a block of this
    /// kind.
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

    /// Returns its origin, for messages.
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

/// A directory of certificates and CRLs under hashed names, in the layout of `openssl rehash`.
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

/// Reads the blocks of a kind from a file. The data passes through a buffer that is wiped.
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

/// Returns the entries in the order of their names, so that the same directory results in the same digests.
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

/// Parses a hashed name: `HHHHHHHH.N` is a certificate, `HHHHHHHH.rN` a CRL.
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

/// Joins PEM files into a few larger ones. Each file is included once, independent of the number of its
/// names.
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
