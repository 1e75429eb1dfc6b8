//! What the whole-system tests are made with: the daemon, Lua programs, peers, a development PKI, and the key
//! scanner.
//!
//! Everything that a value of this crate starts, it ends when it is dropped: by process id, within a bounded time.
//! A wait that is not over within its bound fails the test, with what the process had said until then.

pub mod activated;
pub mod agent;
pub mod daemon;
pub mod echo;
pub mod fuse;
pub mod kernel;
pub mod lua;
pub mod memory;
pub mod needles;
pub mod nginx;
pub mod nonces;
pub mod peer;
pub mod pki;
pub mod process;
pub mod prosody;
pub mod wire;
pub mod xmpp;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long anything is waited for that should come at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A file that `make` left under `build/`.
///
/// # Panics
/// When it is not there: `make` has to come first.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let path = repository().join("build").join(name);
    assert!(path.exists(), "{} is missing: run make first", path.display());
    path
}

/// Copies a file, by a process of its own: a program that this process has open for writing while another thread
/// starts a child cannot be executed (ETXTBSY), since the child inherits the descriptor until it executes.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_file(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied = std::process::Command::new("cp").arg(from.as_ref()).arg(to.as_ref()).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} cannot be copied", from.as_ref().display());
}

/// An empty directory that goes away with the value.
///
/// # Panics
/// When none can be made.
#[must_use]
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("luassl-test-").tempdir().expect("a temporary directory")
}

/// Asks `question` until it says yes.
///
/// # Panics
/// When it still says no after [`PATIENCE`].
pub fn until(what: &str, mut question: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !question() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
