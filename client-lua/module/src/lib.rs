//! The native half of the Lua module luassl: objects of [`luassl_client`] as userdata, and the conventions of
//! results (`nil, message, code`). Arguments are checked in Lua, so that errors for misuse are thrown at the
//! caller's level.

mod context;
mod listener;
mod luasec;
mod options;
mod pending_connection;
mod results;
mod shared;
mod stream;
mod tls_socket;

use luassl_protocol::{Constant, OPTIONS, VERIFY};
use mlua::prelude::*;
use shared::Shared;
use std::rc::Rc;

fn constants(lua: &Lua) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    for Constant { name, value } in OPTIONS.iter().chain(VERIFY) {
        // All values are below 2^53, so that they are exact as the doubles of Lua 5.1 to 5.2 and LuaJIT.
        table.raw_set(*name, i64::try_from(*value).unwrap_or(i64::MAX))?;
    }
    Ok(table)
}

/// `require "luassl_core"`: only for luassl.lua. Loading it does not need a daemon.
#[mlua::lua_module(skip_memory_check)]
fn luassl_core(lua: &Lua) -> LuaResult<LuaTable> {
    let version: String = lua.globals().raw_get("_VERSION")?;
    let name = format!("luassl {} ({version})", env!("CARGO_PKG_VERSION"));
    let shared = Rc::new(Shared::new(name));
    let module = lua.create_table()?;
    module.raw_set("version", env!("CARGO_PKG_VERSION"))?;
    module.raw_set("constants", constants(lua)?)?;
    module.raw_set("tls_socket", tls_socket::functions(lua, &shared)?)?;
    module.raw_set("luasec", luasec::functions(lua, &shared)?)?;
    module.raw_set(
        "context",
        lua.create_function(move |lua, options: LuaTable| context::context(lua, &shared, &options))?,
    )?;
    Ok(module)
}
