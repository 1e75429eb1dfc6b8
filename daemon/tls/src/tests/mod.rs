//! Real handshakes between two sessions of this process, joined by buffers; keys lie behind a signer of the tests' own.

mod chains;
mod costly;
mod costs;
mod failures;
mod handshakes;
mod negotiation;
mod peers;
mod provider;
mod renewal;
mod resumption;
mod select;
mod trust;
