//! What the front gives up when it starts, so that whoever takes it over has little to go on with.

use luassl_sandbox::SandboxError;

/// First of all: closed to debuggers and core dumps, also to those of its own user.
pub(super) fn close() -> Result<(), SandboxError> {
    luassl_sandbox::close_to_others()
}
