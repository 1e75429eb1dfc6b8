//! The capabilities of the front's OpenSSL, for programs that check them before use.

use crate::ffi::safe_ffi;
use luassl_protocol::Description;
use std::sync::LazyLock;

/// Groups by their TLS names. OpenSSL has these names in addition to its own names of curves.
const BESIDE_CURVES: [&str; 5] = ["P-256", "P-384", "P-521", "X25519", "X448"];

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| {
    let curves = safe_ffi::curves().into_iter();
    Description {
        groups: curves.chain(BESIDE_CURVES.map(str::to_owned)).collect(),
        protocols: ["TLSv1.2", "TLSv1.3"].map(str::to_owned).into(),
    }
});

/// Returns the capabilities that can be requested.
#[must_use]
pub fn capabilities() -> Description {
    DESCRIPTION.clone()
}
