//! A front that was taken over, for the tests of what it can do then: it tries what its own name says,
//! `hostile-front-ATTEMPT`, and logs the answer.

use luassl_sandbox::hostile::attempt;

/// Acts, once the front is locked down.
pub(super) fn act(name: &str) {
    let Some(name) = name.strip_prefix("hostile-front-") else { return };
    match attempt(name) {
        Ok(()) => tracing::error!("hostile: {name}: let through"),
        Err(error) => tracing::error!("hostile: {name}: {error}"),
    }
}
