//! What tests of sessions need: an authority, a signer with keys in memory, contexts with a few words, and sessions that are
//! joined by buffers.
#![allow(missing_docs, clippy::unwrap_used, clippy::must_use_candidate, clippy::missing_panics_doc)]

pub mod pipe;
pub mod pki;
pub mod signer;
pub mod world;
