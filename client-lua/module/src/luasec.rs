//! What luassl.luasec needs beside connections: contexts, certificates, and userdata that stand for them.

use crate::options::{self, Fault};
use crate::results::{Returned, fail, misuse};
use crate::{ContextHandle, Shared};
use luassl_client::Context;
use mlua::prelude::*;
use std::rc::Rc;

/// A userdata that stands for a context of LuaSec, which Lua keeps in a table.
struct ContextToken;

impl LuaUserData for ContextToken {}

/// A userdata that stands for a certificate, likewise.
struct CertificateToken;

impl LuaUserData for CertificateToken {}

/// `context(options)`: a context; or nil, the reason and its code, which is luassl's for misuse where the options
/// themselves are at fault.
fn context(lua: &Lua, shared: &Rc<Shared>, options: &LuaTable) -> Returned {
    let recipe = match options::lock_step_recipe(options) {
        Ok(recipe) => recipe,
        Err(Fault::Misuse(message) | Fault::Failed(message)) => return misuse(lua, &message),
    };
    match Context::new(&shared.client, recipe) {
        Ok(context) => {
            lua.create_userdata(ContextHandle { shared: Rc::clone(shared), context })?.into_lua_multi(lua)
        }
        Err(error) => fail(lua, &error),
    }
}

/// The functions.
pub(crate) fn functions(lua: &Lua, shared: &Rc<Shared>) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    let shared = Rc::clone(shared);
    table.raw_set(
        "context",
        lua.create_function(move |lua, options: LuaTable| context(lua, &shared, &options))?,
    )?;
    table.raw_set("context_token", lua.create_function(|_, ()| Ok(ContextToken))?)?;
    table.raw_set("certificate_token", lua.create_function(|_, ()| Ok(CertificateToken))?)?;
    table.raw_set(
        "address",
        lua.create_function(|_, value: LuaValue| Ok(format!("{:p}", value.to_pointer())))?,
    )?;
    Ok(table)
}
