//! The parts of a key of the provider, and the construction of a key.

use crate::ffi::{self, check};
use crate::identity::{KeyId, PublicIdentity};
use crate::provider::algorithm::PROPERTIES;
use crate::provider::params::{self, EXPONENT, GROUP, IDENTITY, KEY_ID, MODULUS, POINT, Part, SIZES};
use foreign_types_shared::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, PKeyRef, Private, Public};
use std::ffi::{CStr, CString, c_int};
use std::ptr;

/// The algorithms that keys may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    Ec,
    Ed25519,
    Ed448,
}

impl KeyKind {
    pub(super) const fn from_index(index: u8) -> Self {
        match index {
            0 => Self::Rsa,
            1 => Self::Ec,
            2 => Self::Ed25519,
            _ => Self::Ed448,
        }
    }

    pub(super) const fn name(self) -> &'static CStr {
        match self {
            Self::Rsa => c"RSA",
            Self::Ec => c"EC",
            Self::Ed25519 => c"ED25519",
            Self::Ed448 => c"ED448",
        }
    }

    fn of(key: &PKeyRef<Public>) -> Option<Self> {
        match key.id() {
            Id::RSA => Some(Self::Rsa),
            Id::EC => Some(Self::Ec),
            Id::ED25519 => Some(Self::Ed25519),
            Id::ED448 => Some(Self::Ed448),
            _ => None,
        }
    }

    fn public_parts(self) -> &'static [&'static CStr] {
        match self {
            Self::Rsa => &[MODULUS, EXPONENT],
            Self::Ec => &[GROUP, POINT],
            Self::Ed25519 | Self::Ed448 => &[POINT],
        }
    }
}

/// The identity and the key id by which the keeper knows a key.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) key_id: KeyId,
}

/// A key: its public half, and, for a key of the keeper, its owner.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kind: KeyKind,
    pub(super) parts: Vec<Part>,
    /// `None` for a public key that libcrypto imported here for a comparison.
    pub(super) owner: Option<Owner>,
    pub(super) bits: usize,
    pub(super) security_bits: usize,
    pub(super) signature_size: usize,
    /// The curve, for an EC key.
    pub(super) group: Option<CString>,
}

impl Key {
    /// Builds a key from its parts. `None` if the public half is incomplete.
    pub(super) fn from_parts(kind: KeyKind, parts: Vec<Part>) -> Option<Self> {
        let bytes = |name: &CStr| parts.iter().find(|part| part.name == name).map(|part| &part.bytes[..]);
        for name in kind.public_parts() {
            bytes(name)?;
        }
        let owner = bytes(IDENTITY).zip(bytes(KEY_ID)).and_then(|(name, id)| owner(name, id));
        let [bits, security_bits, signature_size] = bytes(SIZES).and_then(sizes).unwrap_or_default();
        let group = bytes(GROUP).and_then(text);
        let parts = parts.into_iter().filter(params::is_public).collect();
        Some(Self { kind, parts, owner, bits, security_bits, signature_size, group })
    }

    /// Returns whether both keys have the same public half.
    pub(super) fn matches(&self, other: &Self) -> bool {
        let part = |key: &Self, name| key.parts.iter().find(|part| part.name == name).map(significant);
        self.kind == other.kind
            && self.kind.public_parts().iter().all(|name| part(self, *name) == part(other, *name))
    }
}

/// Returns the bytes of a part without the bytes that do not change its value: zeros at the high end of an integer.
fn significant(part: &Part) -> Vec<u8> {
    let mut bytes = part.bytes.clone();
    if part.kind == ffi::OSSL_PARAM_UNSIGNED_INTEGER {
        if cfg!(target_endian = "big") {
            bytes.reverse();
        }
        let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(length);
    }
    bytes
}

fn text(bytes: &[u8]) -> Option<CString> {
    CStr::from_bytes_with_nul(bytes).ok().map(CStr::to_owned)
}

fn owner(name: &[u8], id: &[u8]) -> Option<Owner> {
    Some(Owner { name: String::from_utf8(name.to_vec()).ok()?, key_id: KeyId(id.try_into().ok()?) })
}

const WORD: usize = size_of::<usize>();

fn sizes(bytes: &[u8]) -> Option<[usize; 3]> {
    let mut sizes = [0; 3];
    if bytes.len() != 3 * WORD {
        return None;
    }
    for (size, word) in sizes.iter_mut().zip(bytes.chunks_exact(WORD)) {
        *size = usize::from_ne_bytes(word.try_into().ok()?);
    }
    Some(sizes)
}

/// Creates the private key of an identity. libssl may sign with it, and the keeper performs the signature.
///
/// # Errors
/// The error queue of OpenSSL if the identity's public key is not a key, or has an algorithm that is not offered (the
/// queue is then empty).
pub(crate) fn private_key(identity: &PublicIdentity) -> Result<PKey<Private>, ErrorStack> {
    let public = PKey::public_key_from_der(&identity.public_key)?;
    let kind = KeyKind::of(&public).ok_or_else(ErrorStack::get)?;
    let mut parts = public_parts(&public)?;
    parts.extend(own_parts(identity, &public));
    from_parts(kind, &parts)
}

fn own_parts(identity: &PublicIdentity, public: &PKeyRef<Public>) -> [Part; 3] {
    let octets = |name, bytes| Part { name, kind: ffi::OSSL_PARAM_OCTET_STRING, bytes };
    let sizes = [public.bits() as usize, public.security_bits() as usize, public.size()];
    [
        octets(IDENTITY, identity.name.clone().into_bytes()),
        octets(KEY_ID, identity.key_id.0.to_vec()),
        octets(SIZES, sizes.iter().flat_map(|size| size.to_ne_bytes()).collect()),
    ]
}

fn public_parts(public: &PKeyRef<Public>) -> Result<Vec<Part>, ErrorStack> {
    let mut array = ptr::null_mut();
    // SAFETY: the key is alive, and `array` is filled in with a new array.
    let result = unsafe {
        openssl_sys::EVP_PKEY_todata(public.as_ptr(), openssl_sys::EVP_PKEY_PUBLIC_KEY, &mut array)
    };
    check(result)?;
    // SAFETY: the array was just created, and ends with a null key.
    let parts = unsafe { params::read_parts(array) };
    // SAFETY: it is freed once, and no pointer into it is left.
    unsafe { openssl_sys::OSSL_PARAM_free(array) };
    Ok(parts)
}

fn from_parts(kind: KeyKind, parts: &[Part]) -> Result<PKey<Private>, ErrorStack> {
    let mut array = params::borrow(parts.iter());
    let mut key = ptr::null_mut();
    // SAFETY: the names are C strings, null is the default library context.
    let context = unsafe {
        openssl_sys::EVP_PKEY_CTX_new_from_name(ptr::null_mut(), kind.name().as_ptr(), PROPERTIES.as_ptr())
    };
    check(c_int::from(!context.is_null()))?;
    // SAFETY: the context is alive; the array and the data that it points to outlive the call; `key` is filled in.
    let made = unsafe {
        check(openssl_sys::EVP_PKEY_fromdata_init(context)).and_then(|()| {
            let selection = openssl_sys::EVP_PKEY_KEYPAIR;
            check(openssl_sys::EVP_PKEY_fromdata(context, &mut key, selection, array.as_mut_ptr()))
        })
    };
    // SAFETY: it is freed once.
    unsafe { openssl_sys::EVP_PKEY_CTX_free(context) };
    made?;
    // SAFETY: EVP_PKEY_fromdata succeeded, so `key` is a key that this code owns.
    Ok(unsafe { PKey::from_ptr(key) })
}
