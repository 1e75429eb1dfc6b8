//! Functions for luassl.luasec apart from connections: contexts, certificates, and userdata that represent them.

use crate::context::ContextHandle;
use crate::options::{self, Fault};
use crate::results::{Returned, fail_to_make, misuse, outcome};
use crate::shared::Shared;
use luassl_client::Context;
use luassl_protocol::{CertificateFacts, CertificateText};
use mlua::prelude::*;
use std::rc::Rc;

/// A userdata that represents a LuaSec context. Lua keeps its state in a table.
struct ContextToken;

impl LuaUserData for ContextToken {}

/// A userdata that represents a certificate in the same way.
struct CertificateToken;

impl LuaUserData for CertificateToken {}

/// `context(options)`: returns a context; or nil, the reason and its code. Invalid options have the code for
/// misuse.
fn context(lua: &Lua, shared: &Rc<Shared>, options: &LuaTable) -> Returned {
    let context_request = match options::lock_step_request(options) {
        Ok(context_request) => context_request,
        Err(Fault::Misuse(message) | Fault::Failed(message)) => return misuse(lua, &message),
    };
    match Context::new(&shared.client, context_request) {
        Ok(context) => lua
            .create_userdata(ContextHandle { shared: Rc::clone(shared), context: Some(context) })?
            .into_lua_multi(lua),
        Err(error) => fail_to_make(lua, &error),
    }
}

/// `certificate(data)`: returns the contents of a certificate as a table; or nil, the reason and its code.
fn certificate(lua: &Lua, shared: &Shared, data: &LuaString) -> Returned {
    let read = shared.client.read_certificate(data.as_bytes().to_vec());
    outcome(lua, read, |facts| certificate_table(lua, &facts)?.into_lua_multi(lua))
}

fn certificate_table(lua: &Lua, facts: &CertificateFacts) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    table.raw_set("der", lua.create_string(&facts.der)?)?;
    table.raw_set("subject", texts(lua, &facts.subject)?)?;
    table.raw_set("issuer", texts(lua, &facts.issuer)?)?;
    table.raw_set("names", texts(lua, &facts.names)?)?;
    let lone = [
        ("pem", &facts.pem),
        ("notbefore", &facts.not_before),
        ("notafter", &facts.not_after),
        ("serial", &facts.serial),
        ("public_key", &facts.public_key),
        ("key_type", &facts.key_type),
        ("signature", &facts.signature),
    ];
    lone.iter().try_for_each(|(name, text)| table.raw_set(*name, text.as_str()))?;
    table.raw_set("valid_from", facts.valid_from)?;
    table.raw_set("valid_to", facts.valid_to)?;
    table.raw_set("key_bits", facts.key_bits)?;
    for (name, digest) in [("sha1", &facts.sha1), ("sha256", &facts.sha256), ("sha512", &facts.sha512)] {
        table.raw_set(name, lua.create_string(digest)?)?;
    }
    Ok(table)
}

fn texts(lua: &Lua, all: &[CertificateText]) -> LuaResult<LuaTable> {
    let list = lua.create_table()?;
    for text in all {
        let entry = lua.create_table()?;
        entry.raw_set("oid", text.oid.as_str())?;
        entry.raw_set("name", text.name.as_str())?;
        entry.raw_set("value", lua.create_string(&text.value)?)?;
        entry.raw_set("utf8", lua.create_string(text.utf8.as_ref().unwrap_or(&text.value))?)?;
        list.raw_push(entry)?;
    }
    Ok(list)
}

/// `check_issued(anchor, certificate, between)`, all DER: returns whether the certificate verifies, and the
/// reason if not.
fn check_issued(
    lua: &Lua,
    shared: &Shared,
    (anchor, certificate, between): (LuaString, LuaString, Vec<LuaString>),
) -> Returned {
    let der = |string: &LuaString| string.as_bytes().to_vec();
    let between = between.iter().map(der).collect();
    outcome(lua, shared.client.check_issued(der(&anchor), der(&certificate), between), |issued| {
        (issued.issued, issued.reason).into_lua_multi(lua)
    })
}

/// Returns the groups that the daemon's OpenSSL supports; or nil, the reason and its code.
fn describe(lua: &Lua, shared: &Shared) -> Returned {
    outcome(lua, shared.client.describe(), |description| description.groups.into_lua_multi(lua))
}

/// Returns the table of functions.
pub(crate) fn functions(lua: &Lua, shared: &Rc<Shared>) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    let own = Rc::clone(shared);
    let made = lua.create_function(move |lua, options: LuaTable| context(lua, &own, &options))?;
    table.raw_set("context", made)?;
    let own = Rc::clone(shared);
    let read = lua.create_function(move |lua, data: LuaString| certificate(lua, &own, &data))?;
    table.raw_set("certificate", read)?;
    let own = Rc::clone(shared);
    let issued = lua.create_function(move |lua, arguments| check_issued(lua, &own, arguments))?;
    table.raw_set("check_issued", issued)?;
    let own = Rc::clone(shared);
    table.raw_set("describe", lua.create_function(move |lua, ()| describe(lua, &own))?)?;
    table.raw_set("context_token", lua.create_function(|_, ()| Ok(ContextToken))?)?;
    table.raw_set("certificate_token", lua.create_function(|_, ()| Ok(CertificateToken))?)?;
    table.raw_set(
        "address",
        lua.create_function(|_, value: LuaValue| Ok(format!("{:p}", value.to_pointer())))?,
    )?;
    Ok(table)
}
