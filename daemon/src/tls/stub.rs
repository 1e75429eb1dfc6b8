#![allow(missing_docs, unused)]
use crate::{identity::*, settings::*};
use luassl_protocol::*;
use openssl::ssl::{Ssl, SslRef};
use std::{collections::*, sync::Arc};
pub struct Floors {
    pub minimum_protocol: ProtocolVersion,
    pub verify_required: bool,
    pub rsa_key_exchange: bool,
}
pub struct ContextSource {
    pub spec: ContextSpec,
    pub blobs: HashMap<[u8; 32], Arc<[u8]>>,
    pub floors: Floors,
}
#[derive(Default)]
pub struct TrustStores;
impl TrustStores {
    pub fn new(_t: &BTreeMap<String, TrustSettings>) -> (Self, Vec<String>) {
        todo!()
    }
}
pub struct Context;
impl Context {
    pub fn new(
        _s: ContextSource,
        _i: Arc<dyn IdentitySource>,
        _t: Arc<TrustStores>,
    ) -> Result<Self, Failure> {
        todo!()
    }
    pub fn session(&self, _r: Role, _h: Option<&str>, _s: Option<&str>) -> Result<Ssl, Failure> {
        todo!()
    }
}
pub fn info(_s: &SslRef) -> Info {
    Info::default()
}
pub fn peer_certificate(_s: &SslRef) -> PeerCertificate {
    todo!()
}
pub fn peer_matches(_s: &SslRef, _h: &str) -> bool {
    todo!()
}
pub fn failure(e: &openssl::ssl::Error, _s: &SslRef) -> Failure {
    Failure::new(ErrorCode::Tls, e.to_string())
}
pub fn renegotiate(_s: &SslRef, _server: bool) -> Result<(), Failure> {
    todo!()
}
pub fn renegotiation_is_pending(_s: &SslRef) -> bool {
    false
}
thread_local! { static MAY_SIGN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) }; }
pub fn may_sign(m: bool) {
    MAY_SIGN.set(m);
}
pub fn signing_is_allowed() -> bool {
    MAY_SIGN.get()
}
pub fn peer_has_closed(s: &SslRef) -> bool {
    use foreign_types_shared::ForeignTypeRef;
    // SAFETY: a valid SSL.
    unsafe { openssl_sys::SSL_get_shutdown(s.as_ptr()) & 2 != 0 }
}
