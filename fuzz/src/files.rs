//! What is read from files: keys and chains in the keeper, certificates and CRLs in the front.

use luassl_protocol::{ContextSpec, DhSpec, Digest, ProtocolVersion, TrustSpec};
use luassl_settings::TrustSettings;
use luassl_tls::identity::{IdentitySource, PublicIdentity};
use luassl_tls::{Context, ContextSource, Floors, Resumption, TrustStores};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_bytes::ByteBuf;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};

/// A file with these bytes.
pub(crate) fn file(bytes: &[u8]) -> OwnedFd {
    let memory = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a memory file");
    let mut file = File::from(memory);
    file.write_all(bytes).expect("written");
    file.into()
}

/// A key that is good.
static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    let key = EcKey::generate(&group).and_then(PKey::from_ec_key).expect("a key");
    key.private_key_to_pem_pkcs8().expect("as text")
});

/// The keeper reads an identity: the bytes as its key with its chain, as the chain of a good key, and as its staple.
pub(crate) fn identity(bytes: &[u8]) {
    let _ = luassl_keeper::examine(file(bytes), None, None);
    let _ = luassl_keeper::examine(file(&KEY), Some(file(bytes)), None);
    let _ = luassl_keeper::examine(file(&KEY), None, Some(file(bytes)));
}

struct Nobody;

impl IdentitySource for Nobody {
    fn current(&self, _: &str) -> Option<Arc<PublicIdentity>> {
        None
    }

    fn epoch(&self) -> u64 {
        0
    }
}

/// The front reads a trust that was pushed, and what a program brought: authorities, CRLs, DH parameters.
pub(crate) fn trust(bytes: &[u8]) {
    let trusts = TrustStores::new();
    let pushed = TrustSettings {
        certificates: vec![ByteBuf::from(bytes)],
        crls: if bytes.len().is_multiple_of(2) { vec![] } else { vec![ByteBuf::from(bytes)] },
    };
    let _ =
        trusts.update(&[("fuzz".to_owned(), pushed), ("system".to_owned(), TrustSettings::default())].into());
    let trusts = Arc::new(trusts);
    let brought: Digest = Digest::new([7; 32]);
    let trust = |certificates, crls| TrustSpec { certificates, crls, system: true, ..TrustSpec::default() };
    for spec in [
        ContextSpec { trust: trust(vec![brought], vec![]), ..ContextSpec::default() },
        ContextSpec { trust: trust(vec![], vec![brought]), ..ContextSpec::default() },
        ContextSpec { dh: Some(DhSpec::Parameters(brought)), ..ContextSpec::default() },
    ] {
        let source = ContextSource {
            spec,
            blobs: [(brought, Arc::from(bytes))].into(),
            floors: FLOORS,
            owner: "fuzz".into(),
            recreated: false,
            ledger: None,
            trusts: None,
        };
        let resumption = Arc::new(Resumption::new(Arc::default()));
        let _ = Context::new(source, Arc::new(Nobody), Arc::clone(&trusts), resumption);
    }
}

/// No floor.
pub(crate) const FLOORS: Floors = Floors {
    minimum_protocol: ProtocolVersion::Tls12,
    verify_required: false,
    rsa_key_exchange: true,
    dhe: true,
    key_log: false,
};
