//! A captured front, for the tests of what an attacker can do with it. Its name determines the attempt:
//! `hostile-front-ATTEMPT` against the system, `hostile-front-asks-REQUEST` against its keeper. It logs the answer.

mod misuse;

use luassl_sandbox::hostile::attempt;
use std::path::Path;

/// Performs the attempt, after the front is locked down.
pub(super) fn act(name: &str, keeper: &Path) {
    let Some(name) = name.strip_prefix("hostile-front-") else { return };
    if let Some(request) = name.strip_prefix("asks-") {
        let (request, keeper) = (request.to_owned(), keeper.to_owned());
        // The keeper answers only after it has had its push, and the front has to serve in the meantime.
        std::thread::spawn(move || misuse::act(&request, &keeper));
        return;
    }
    match attempt(name) {
        Ok(()) => tracing::error!("hostile: {name}: let through"),
        Err(error) => tracing::error!("hostile: {name}: {error}"),
    }
}
