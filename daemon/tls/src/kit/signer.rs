//! A signer with keys in memory, in place of the keeper.

use crate::identity::{KeyId, PreMaster, SignError, Signer};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer as OpenSslSigner};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Once};
use zeroize::Zeroizing;

/// A signature that was made: the name of the identity and the scheme.
type Signed = (String, u16);

#[derive(Default)]
pub struct LocalSigner {
    keys: Mutex<HashMap<(String, KeyId), PKey<Private>>>,
    log: Mutex<Vec<Signed>>,
}

static SIGNER: LazyLock<Arc<LocalSigner>> = LazyLock::new(Arc::default);

/// Returns the signer, with the provider installed.
pub fn signer() -> &'static LocalSigner {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| crate::install(SIGNER.clone()).unwrap());
    &SIGNER
}

impl LocalSigner {
    pub fn add(&self, name: &str, id: KeyId, key: PKey<Private>) {
        self.keys.lock().insert((name.to_owned(), id), key);
    }

    /// Returns the schemes that the identity has signed with so far.
    pub fn schemes(&self, name: &str) -> Vec<u16> {
        let log = self.log.lock();
        log.iter().filter(|signed| signed.0 == name).map(|signed| signed.1).collect()
    }
}

impl Signer for LocalSigner {
    fn sign(&self, name: &str, key_id: KeyId, scheme: u16, message: &[u8]) -> Result<Vec<u8>, SignError> {
        if name.starts_with("unavailable") {
            return Err(SignError::Unavailable);
        }
        let key = self.keys.lock().get(&(name.to_owned(), key_id)).cloned();
        let key = key.ok_or_else(|| SignError::Refused("unknown key".to_owned()))?;
        self.log.lock().push((name.to_owned(), scheme));
        Ok(sign(&key, scheme, message))
    }

    fn decrypt(
        &self,
        name: &str,
        key_id: KeyId,
        version: u16,
        ciphertext: &[u8],
    ) -> Result<PreMaster, SignError> {
        let key = self.keys.lock().get(&(name.to_owned(), key_id)).cloned().unwrap();
        let mut block = [0; 512];
        let length = key.rsa().unwrap().private_decrypt(ciphertext, &mut block, Padding::PKCS1).unwrap();
        assert_eq!(block[..2], version.to_be_bytes());
        let secret = block[..length].try_into().unwrap();
        Ok(PreMaster(Zeroizing::new(secret)))
    }
}

fn sign(key: &PKey<Private>, scheme: u16, message: &[u8]) -> Vec<u8> {
    let digest = match scheme {
        0x0401 | 0x0403 | 0x0804 => Some(MessageDigest::sha256()),
        0x0501 | 0x0503 | 0x0805 => Some(MessageDigest::sha384()),
        0x0601 | 0x0603 | 0x0806 => Some(MessageDigest::sha512()),
        0x0807 | 0x0808 => None,
        other => panic!("scheme {other:#06x}"),
    };
    let mut signer = match digest {
        Some(digest) => OpenSslSigner::new(digest, key).unwrap(),
        None => OpenSslSigner::new_without_digest(key).unwrap(),
    };
    if scheme >> 8 == 8 && digest.is_some() {
        signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
        signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
    }
    signer.sign_oneshot_to_vec(message).unwrap()
}
