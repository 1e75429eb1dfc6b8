//! A fuzz target for every decoder: each takes any bytes, and panics where a promise is broken.
//!
//! Three ways lead here. `cargo test` feeds each target its corpus and what a few thousand mutations make of it
//! (`tests/corpus.rs`). `scripts/fuzz` runs each for as long as it is told: under libFuzzer, which follows the code's
//! branches (`libfuzzer/`, needs cargo-fuzz and a nightly Rust), or, without these, as the mutations of [`mutate`].

mod configuration;
mod files;
mod keeper;
pub mod mutate;
mod network;
mod protocol;
mod push;

/// A function that any bytes can be given to.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: of its corpus, and of its program under libFuzzer.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "control", run: protocol::control },
    Target { name: "answers", run: protocol::answers },
    Target { name: "lock_step", run: protocol::lock_step },
    Target { name: "material", run: protocol::material },
    Target { name: "keeper_messages", run: keeper::messages },
    Target { name: "handshake_message", run: keeper::handshake_message },
    Target { name: "identity_files", run: files::identity },
    Target { name: "trust_files", run: files::trust },
    Target { name: "configuration", run: configuration::configuration },
    Target { name: "settings", run: push::settings },
    Target { name: "status", run: push::status },
    Target { name: "client_hello", run: network::client_hello },
    Target { name: "server_hello", run: network::server_hello },
    Target { name: "peer_certificates", run: network::peer_certificates },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// Runs the target of that name: for the programs under `libfuzzer/`.
///
/// # Panics
/// Where there is none, and where the target does.
pub fn run(name: &str, bytes: &[u8]) {
    let target = target(name).unwrap_or_else(|| panic!("no target is called {name}"));
    (target.run)(bytes);
}
