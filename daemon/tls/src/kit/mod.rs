//! Test support for sessions: an authority, a signer with keys in memory, short constructors for contexts, and sessions
//! connected by buffers.
#![allow(missing_docs, clippy::unwrap_used, clippy::must_use_candidate, clippy::missing_panics_doc)]

pub mod pipe;
pub mod pki;
pub mod signer;
pub mod world;
