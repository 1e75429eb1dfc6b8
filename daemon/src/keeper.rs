//! stub
use crate::identity::*;
use std::{path::PathBuf, sync::Arc, time::Duration};
/// stub
pub struct KeeperLink;
#[allow(missing_docs)]
impl KeeperLink {
    pub fn start(_p: PathBuf, _d: Duration) -> Arc<Self> {
        unimplemented!()
    }
    pub fn set_deadline(&self, _d: Duration) {}
    pub fn identities(&self) -> Arc<dyn IdentitySource> {
        unimplemented!()
    }
    pub fn is_synced(&self) -> bool {
        false
    }
}
impl Signer for KeeperLink {
    fn sign(&self, _n: &str, _k: KeyId, _s: u16, _m: &[u8]) -> Result<Vec<u8>, SignError> {
        unimplemented!()
    }
}
