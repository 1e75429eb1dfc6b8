//! Contexts of programs: their descriptions, and the OpenSSL contexts that result under each grant.

mod build;
mod factory;
mod names;
mod request;
mod table;
#[cfg(test)]
pub(super) mod tests;

pub(super) use build::Contexts;
pub(super) use factory::{Peer, SessionFactory};
pub(super) use request::{ContextRequest, digests_of, identities_of};
pub(super) use table::{ContextEntry, ContextTable};
