//! A front that was taken over, for the tests of what it can do then: it tries what its own name says,
//! `hostile-front-ATTEMPT` against the system, `hostile-front-asks-REQUEST` against its keeper, and logs the answer.

mod misuse;

use luassl_sandbox::hostile::attempt;
use std::path::Path;

/// Acts, once the front is locked down.
pub(super) fn act(name: &str, keeper: &Path) {
    let Some(name) = name.strip_prefix("hostile-front-") else { return };
    if let Some(request) = name.strip_prefix("asks-") {
        let (request, keeper) = (request.to_owned(), keeper.to_owned());
        // The keeper answers once it has had its push, and the front has to serve meanwhile.
        std::thread::spawn(move || misuse::act(&request, &keeper));
        return;
    }
    match attempt(name) {
        Ok(()) => tracing::error!("hostile: {name}: let through"),
        Err(error) => tracing::error!("hostile: {name}: {error}"),
    }
}
