//! Results for Lua programs: a value or `true`, or `nil, message, code`.

use luassl_client::{Error, Timeout};
use luassl_protocol::{FailureReason, LuaCode};
use mlua::prelude::*;
use std::time::Duration;

/// The result of a function of the module.
pub(crate) type Returned = LuaResult<LuaMultiValue>;

/// Returns exactly one value.
pub(crate) fn value(lua: &Lua, value: impl IntoLua) -> Returned {
    value.into_lua(lua)?.into_lua_multi(lua)
}

/// Returns `nil, message, code`, and whether a garbage collection may help. Contexts of unreferenced objects
/// count towards the limit until they are collected.
pub(crate) fn fail_to_make(lua: &Lua, error: &Error) -> Returned {
    let may_help = error.reason == Some(FailureReason::Contexts);
    (LuaNil, error.message.as_str(), error.code as i32, may_help).into_lua_multi(lua)
}

/// Returns `nil, message, code`.
pub(crate) fn fail(lua: &Lua, error: &Error) -> Returned {
    (LuaNil, error.message.as_str(), error.code as i32).into_lua_multi(lua)
}

/// Returns `nil, message, code` for an operation that is not possible with this argument or in this state.
pub(crate) fn misuse(lua: &Lua, message: &str) -> Returned {
    (LuaNil, message, LuaCode::Misuse as i32).into_lua_multi(lua)
}

/// Returns the value that `convert` returns for a success, or the failure.
pub(crate) fn outcome<T>(
    lua: &Lua,
    outcome: Result<T, Error>,
    convert: impl FnOnce(T) -> Returned,
) -> Returned {
    match outcome {
        Ok(success) => convert(success),
        Err(error) => fail(lua, &error),
    }
}

/// Returns `true` or the failure.
pub(crate) fn done(lua: &Lua, result: Result<(), Error>) -> Returned {
    outcome(lua, result, |()| value(lua, true))
}

/// Converts seconds from `settimeout`; `None` or a negative number means no timeout.
pub(crate) fn timeout(seconds: Option<f64>) -> Timeout {
    match seconds {
        Some(seconds) if seconds >= 0.0 => {
            Duration::try_from_secs_f64(seconds).map_or(Timeout::Never, Timeout::After)
        }
        _ => Timeout::Never,
    }
}
