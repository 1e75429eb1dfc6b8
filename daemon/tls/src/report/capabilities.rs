//! What the front's OpenSSL knows, for programs that ask before they ask for it.

use crate::ffi::safe_ffi;
use luassl_protocol::Description;
use std::sync::LazyLock;

/// Groups by the names that TLS has for them; OpenSSL knows them beside its own names of curves.
const BESIDE_CURVES: [&str; 5] = ["P-256", "P-384", "P-521", "X25519", "X448"];

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| {
    let curves = safe_ffi::curves().into_iter();
    Description {
        groups: curves.chain(BESIDE_CURVES.map(str::to_owned)).collect(),
        protocols: ["TLSv1.2", "TLSv1.3"].map(str::to_owned).into(),
    }
});

/// What can be asked for.
#[must_use]
pub fn capabilities() -> Description {
    DESCRIPTION.clone()
}
