//! The objects that a control connection has described: contexts, and the bytes that they refer to.

use crate::control::{channel::CHUNK, reply::Outcome, session::Session};
use crate::{
    authorization::quota::{Bound, Kind},
    context::{ContextEntry, ContextRequest, SessionFactory, digests_of, identities_of},
};
use luassl_protocol::{
    Blob, BlobStored, ContextMade, Digest, Done, ErrorCode, Failure, FreeContext, MakeContext,
};
use std::sync::Arc;

/// The cost of a blob in addition to its bytes, in bytes: its entry, its digest and its part of the limit.
const BLOB_OVERHEAD: u64 = 256;

/// The memory that each byte of a context's description costs while the context exists, in bytes. Names are separate
/// strings, and each use of the context has a copy.
const DESCRIPTION_COST: u64 = 4;

/// The number of blobs that one control connection may keep.
const MAX_BLOBS: usize = 4_096;

impl Session {
    pub(super) async fn blob(&mut self, blob: Blob, size: u64) -> Outcome<BlobStored> {
        let hash = move || (openssl::sha::sha256(&blob.data), blob.data);
        let (digest, data) = if size > CHUNK as u64 {
            self.services
                .parsing
                .run_frame(&self.principal.owner, &self.services.authority.limits(), hash)
                .await?
        } else {
            hash()
        };
        if !self.blobs.contains_key(&digest) {
            if self.blobs.len() >= MAX_BLOBS {
                let message = format!("the limit of {MAX_BLOBS} blobs of one control connection is reached");
                return Err(Failure::new(ErrorCode::Limit, message));
            }
            let limits = self.services.authority.limits();
            let bound = Bound { owner: limits.blob_bytes_per_owner, all: Some(limits.blob_bytes) };
            let amount = data.len() as u64 + BLOB_OVERHEAD;
            let slot =
                self.services.authority.quotas.take(&self.principal.owner, Kind::BlobBytes, amount, bound)?;
            self.blobs.insert(digest, (data.into(), slot));
        }
        Ok(BlobStored { digest: Digest::new(digest) })
    }

    pub(super) async fn context(
        &mut self,
        MakeContext { spec, again }: MakeContext,
        size: u64,
    ) -> Outcome<ContextMade> {
        self.services.authority.granted(&self.principal)?;
        let missing: Vec<_> =
            digests_of(&spec).into_iter().filter(|digest| !self.blobs.contains_key(&**digest)).collect();
        if !missing.is_empty() {
            return Ok(ContextMade { context: None, missing });
        }
        if !identities_of(&spec).is_empty() {
            self.services.contexts.identities_synced().await;
        }
        let limits = self.services.authority.limits();
        let own = self.services.authority.context_bound(&self.principal);
        let bound = Bound { owner: own, all: Some(limits.contexts) };
        let slot = self.services.authority.quotas.take(&self.principal.owner, Kind::Contexts, 1, bound)?;
        let parsed = Bound { owner: limits.parsed_bytes_per_owner, all: Some(limits.parsed_bytes) };
        let description = size.saturating_mul(DESCRIPTION_COST);
        let description = self.services.authority.quotas.take(
            &self.principal.owner,
            Kind::ParsedBytes,
            description,
            parsed,
        )?;
        let blobs = digests_of(&spec)
            .iter()
            .filter_map(|digest| Some((*digest, Arc::clone(&self.blobs.get(&**digest)?.0))))
            .collect();
        let context_request =
            Arc::new(ContextRequest { spec, blobs, recreated: again, _slots: vec![slot, description] });
        let checked = self.services.contexts.check(&self.principal, &context_request).await?;
        let sessions = SessionFactory::new(
            Arc::clone(&self.services.contexts),
            self.principal.clone(),
            Arc::clone(&context_request),
            None,
        );
        let number = self.next_context;
        self.next_context += 1;
        self.contexts.insert(number, ContextEntry { context_request, sessions, _checked: checked.context });
        Ok(ContextMade { context: Some(number), missing: Vec::new() })
    }

    pub(super) fn free_context(&mut self, free: &FreeContext) -> Outcome<Done> {
        self.contexts.remove(free.context).map(|()| Done {})
    }
}
