//! Lock-step connections as userdata, for luassl.luasec. The functions on them are in one table, because that
//! module gives the userdata its own metatable.

use crate::context::ContextHandle;
use crate::results::{Returned, misuse};
use crate::shared::Shared;
use luassl_client::Adopted;
use luassl_client::lockstep::{
    Blocked, HandshakeOptions, HandshakeOutcome, Pattern, Statistics, TlsSocket, Want,
};
use luassl_protocol::{Dane, Facts, Role, TlsaRecord};
use mlua::prelude::*;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

/// A connection. luassl.luasec sets its metatable.
pub(crate) struct TlsSocketHandle {
    shared: Rc<Shared>,
    socket: TlsSocket,
}

impl LuaUserData for TlsSocketHandle {}

type This = LuaUserDataRefMut<TlsSocketHandle>;

impl TlsSocketHandle {
    fn with<T>(&mut self, work: impl FnOnce(&mut TlsSocket, &mut Vec<u8>) -> T) -> T {
        let mut scratch = self.shared.scratch.take();
        let outcome = work(&mut self.socket, &mut scratch);
        self.shared.scratch.replace(scratch);
        outcome
    }
}

/// Returns LuaSec's name of the reason.
fn as_luasec(blocked: &Blocked) -> &str {
    match blocked {
        Blocked::WantRead => "wantread",
        Blocked::WantWrite => "wantwrite",
        Blocked::Closed => "closed",
        Blocked::Failed(reason) => reason,
    }
}

/// `begin(conn, context, server, options)`: returns true, or nil and the reason. The options are `sni`,
/// `host`, `resume`, `dane`.
fn begin(
    lua: &Lua,
    (mut this, context, server, options): (This, LuaUserDataRef<ContextHandle>, bool, LuaTable),
) -> Returned {
    let role = if server { Role::Server } else { Role::Client };
    let Some(context) = &context.context else { return misuse(lua, "the context is freed") };
    let dane: Option<LuaTable> = options.raw_get("dane")?;
    let handshake = HandshakeOptions {
        context: Rc::clone(context),
        role,
        host: options.raw_get("host")?,
        sni: options.raw_get("sni")?,
        dane: dane.map(|dane| records(&dane)).transpose()?,
        resume: options.raw_get::<Option<bool>>("resume")?.unwrap_or_default(),
    };
    match this.socket.begin(&handshake) {
        Ok(()) => true.into_lua_multi(lua),
        Err(error) => (LuaNil, error.message).into_lua_multi(lua),
    }
}

/// Reads `{host = "...", {usage, selector, matching, data}, ...}`.
fn records(dane: &LuaTable) -> LuaResult<Dane> {
    let record = |record: LuaResult<LuaTable>| {
        let record = record?;
        let data: LuaString = record.raw_get(4)?;
        Ok(TlsaRecord {
            usage: record.raw_get(1)?,
            selector: record.raw_get(2)?,
            matching: record.raw_get(3)?,
            data: data.as_bytes().to_vec().into(),
        })
    };
    let records = dane.sequence_values().map(record).collect::<LuaResult<_>>()?;
    Ok(Dane { host: dane.raw_get("host")?, records })
}

/// Returns true; or false and the reason; or nil if the program must decide: `nil, "hello", name, protocols`
/// for the peer's ClientHello, `nil, "psk", identity or hint, max_key, max_identity` for a key.
fn handshake_outcome(lua: &Lua, outcome: Result<HandshakeOutcome, Blocked>) -> Returned {
    match outcome {
        Ok(HandshakeOutcome::Done) => true.into_lua_multi(lua),
        Ok(HandshakeOutcome::Hello(hello)) => (LuaNil, "hello", hello.sni, hello.alpn).into_lua_multi(lua),
        Ok(HandshakeOutcome::Psk(question)) => {
            let named = question.identity.or(question.hint);
            let named = named.map(|bytes| lua.create_string(&bytes)).transpose()?;
            (LuaNil, "psk", named, question.max_key, question.max_identity).into_lua_multi(lua)
        }
        Err(blocked) => (false, as_luasec(&blocked)).into_lua_multi(lua),
    }
}

fn handshake(lua: &Lua, mut this: This) -> Returned {
    handshake_outcome(lua, this.with(TlsSocket::handshake))
}

type Decision = (This, Option<LuaUserDataRef<ContextHandle>>, Option<String>, bool);

fn decide(lua: &Lua, (mut this, context, alpn, refuse): Decision) -> Returned {
    let context = context.and_then(|context| context.context.clone());
    let outcome =
        this.with(|socket, scratch| socket.decide(context.as_ref(), alpn.as_deref(), refuse, scratch));
    handshake_outcome(lua, outcome)
}

/// `share(conn, identity, key)`: continues with a key, or without one.
fn share(lua: &Lua, (mut this, identity, key): (This, Option<LuaString>, Option<LuaString>)) -> Returned {
    let (identity, key) = (identity.as_ref().map(LuaString::as_bytes), key.as_ref().map(LuaString::as_bytes));
    let outcome = this.with(|socket, scratch| socket.share(identity.as_deref(), key.as_deref(), scratch));
    handshake_outcome(lua, outcome)
}

/// `receive(conn, what, prefix)`: -1 is a line, -2 is all data, any other number is a number of bytes.
fn receive(lua: &Lua, (mut this, what, prefix): (This, f64, Option<LuaString>)) -> Returned {
    let pattern = match what {
        -1.0 => Pattern::Line,
        -2.0 => Pattern::All,
        count => Pattern::Count(count as usize),
    };
    let prefix = prefix.map(|prefix| prefix.as_bytes().to_vec()).unwrap_or_default();
    let received = this.with(|socket, scratch| socket.receive(pattern, &prefix, scratch));
    // Creating the string may run a finaliser, which may use this connection.
    drop(this);
    let data = lua.create_string(&received.data)?;
    match received.blocked {
        None => (data, LuaNil, LuaNil).into_lua_multi(lua),
        Some(blocked) => (LuaNil, as_luasec(&blocked), data).into_lua_multi(lua),
    }
}

/// `send(conn, data, first, last)`: sends a range of the data. Both positions count from 1 and are within the
/// data.
fn send(lua: &Lua, (mut this, data, first, last): (This, LuaString, usize, usize)) -> Returned {
    let bytes = data.as_bytes();
    let part = bytes.get(first - 1..last).unwrap_or_default();
    let sent = this.with(|socket, scratch| socket.send(part, scratch));
    let reached = number(first - 1 + sent.count);
    match sent.blocked {
        None => (reached, LuaNil, LuaNil).into_lua_multi(lua),
        Some(blocked) => (LuaNil, as_luasec(&blocked), reached).into_lua_multi(lua),
    }
}

/// Converts a number to a float, like LuaSec, on Lua versions with integers.
fn number(count: usize) -> LuaValue {
    LuaValue::Number(count as f64)
}

/// Returns true, false if the peer's close_notify has not arrived, or nil and the reason.
fn shutdown(lua: &Lua, mut this: This) -> Returned {
    match this.with(TlsSocket::shutdown) {
        Ok(complete) => complete.into_lua_multi(lua),
        Err(blocked) => (LuaNil, as_luasec(&blocked)).into_lua_multi(lua),
    }
}

fn facts(lua: &Lua, mut this: This) -> Returned {
    match this.with(TlsSocket::facts) {
        Ok(facts) => facts_table(lua, &facts)?.into_lua_multi(lua),
        Err(blocked) => (LuaNil, as_luasec(&blocked)).into_lua_multi(lua),
    }
}

fn facts_table(lua: &Lua, facts: &Facts) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    table.raw_set("protocol", facts.protocol.as_str())?;
    table.raw_set("cipher", facts.cipher.as_str())?;
    table.raw_set("bits", f64::from(facts.bits))?;
    table.raw_set("algorithm_bits", f64::from(facts.algorithm_bits))?;
    table.raw_set("finished", lua.create_string(&facts.finished)?)?;
    table.raw_set("peer_finished", lua.create_string(&facts.peer_finished)?)?;
    table.raw_set("verify_code", facts.verify_code)?;
    table.raw_set("verify_text", facts.verify_text.as_str())?;
    let faults = lua.create_table()?;
    for fault in &facts.verify_faults {
        faults.raw_push(
            lua.create_sequence_from([fault.depth.into_lua(lua)?, fault.message.as_str().into_lua(lua)?])?,
        )?;
    }
    table.raw_set("faults", faults)?;
    table.raw_set("peer", facts.peer.as_ref().map(|der| lua.create_string(der)).transpose()?)?;
    table.raw_set("peer_chain", strings(lua, &facts.peer_chain)?)?;
    table.raw_set("local_chain", strings(lua, &facts.local_chain)?)?;
    table.raw_set("staple", facts.staple.as_ref().map(|der| lua.create_string(der)).transpose()?)?;
    table.raw_set("staple_status", facts.staple_status.as_deref())?;
    table.raw_set("key_log", facts.key_log.as_deref())?;
    Ok(table)
}

fn strings<T: AsRef<[u8]>>(lua: &Lua, all: &[T]) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    all.iter().try_for_each(|one| table.raw_push(lua.create_string(one)?))?;
    Ok(table)
}

type Exporting = (This, String, u32, Option<LuaString>);

fn export(lua: &Lua, (mut this, label, length, context): Exporting) -> Returned {
    let context = context.map(|context| context.as_bytes().to_vec());
    match this.socket.export(&label, length, context.as_deref()) {
        Ok(data) => lua.create_string(data)?.into_lua_multi(lua),
        Err(error) => (LuaNil, error.message).into_lua_multi(lua),
    }
}

fn want(_: &Lua, this: This) -> LuaResult<&'static str> {
    Ok(match this.socket.want() {
        Want::Nothing => "nothing",
        Want::Read => "read",
        Want::Write => "write",
    })
}

/// `adopt(conn, number)`: returns true, or nil and the reason why the number is not taken over.
fn adopt(lua: &Lua, (mut this, number): (This, i32)) -> Returned {
    match Adopted::new(number) {
        Ok(_) if this.socket.has_begun() || this.socket.is_connected() || this.socket.is_closed() => {
            (LuaNil, "invalid SSL object state").into_lua_multi(lua)
        }
        Ok(socket) => this.socket.adopt(socket.into_owned()).into_lua_multi(lua),
        Err(error) => (LuaNil, error.to_string()).into_lua_multi(lua),
    }
}

fn info(lua: &Lua, this: This) -> Returned {
    let info = this.socket.info();
    let (alpn, sni, group) = (info.alpn.as_deref(), info.sni.as_deref(), info.group.as_deref());
    (alpn, sni, info.peer.as_str(), info.local.as_str(), group, info.reused).into_lua_multi(lua)
}

fn settimeout(_: &Lua, (mut this, seconds, whole): (This, f64, bool)) -> LuaResult<()> {
    let times = &mut this.socket.times;
    *(if whole { &mut times.total } else { &mut times.block }) = seconds;
    Ok(())
}

fn getfd(_: &Lua, this: This) -> LuaResult<f64> {
    Ok(this.socket.descriptor().map_or(-1.0, |fd| fd.as_raw_fd().into()))
}

/// Returns the received bytes, the sent bytes, and the age in seconds.
fn statistics(_: &Lua, this: This) -> LuaResult<(f64, f64, f64)> {
    let statistics = &this.socket.statistics;
    Ok((statistics.received as f64, statistics.sent as f64, statistics.age().as_secs_f64()))
}

fn set_statistics(_: &Lua, (mut this, received, sent, age): (This, f64, f64, f64)) -> LuaResult<()> {
    let age = Duration::try_from_secs_f64(age).unwrap_or_default();
    this.socket.statistics = Statistics::new(received as u64, sent as u64, age);
    Ok(())
}

/// Returns address, port and family, like LuaSocket; or nil and the reason.
fn name(lua: &Lua, this: &TlsSocketHandle, of: impl FnOnce(&TlsSocket) -> Option<SocketAddr>) -> Returned {
    match of(&this.socket) {
        Some(address) => {
            let family = if address.is_ipv6() { "inet6" } else { "inet" };
            (address.ip().to_string(), address.port(), family).into_lua_multi(lua)
        }
        None => (LuaNil, "closed").into_lua_multi(lua),
    }
}

/// Returns the table of functions on connections.
pub(crate) fn functions(lua: &Lua, shared: &Rc<Shared>) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    let shared = Rc::clone(shared);
    let new = move |_: &Lua, ()| {
        let socket = TlsSocket::new(&shared.client, None);
        Ok(TlsSocketHandle { shared: Rc::clone(&shared), socket })
    };
    table.raw_set("new", lua.create_function(new)?)?;
    table.raw_set("adopt", lua.create_function(adopt)?)?;
    table.raw_set("begin", lua.create_function(begin)?)?;
    table.raw_set("handshake", lua.create_function(handshake)?)?;
    table.raw_set("decide", lua.create_function(decide)?)?;
    table.raw_set("share", lua.create_function(share)?)?;
    table.raw_set("receive", lua.create_function(receive)?)?;
    table.raw_set("send", lua.create_function(send)?)?;
    table.raw_set("shutdown", lua.create_function(shutdown)?)?;
    table.raw_set("facts", lua.create_function(facts)?)?;
    table.raw_set("export", lua.create_function(export)?)?;
    table.raw_set("want", lua.create_function(want)?)?;
    table.raw_set("info", lua.create_function(info)?)?;
    table.raw_set("getfd", lua.create_function(getfd)?)?;
    table.raw_set("settimeout", lua.create_function(settimeout)?)?;
    table.raw_set("dirty", lua.create_function(|_, this: This| Ok(this.socket.is_dirty()))?)?;
    table.raw_set("begun", lua.create_function(|_, this: This| Ok(this.socket.has_begun()))?)?;
    table.raw_set("connected", lua.create_function(|_, this: This| Ok(this.socket.is_connected()))?)?;
    table.raw_set("closed", lua.create_function(|_, this: This| Ok(this.socket.is_closed()))?)?;
    table.raw_set("statistics", lua.create_function(statistics)?)?;
    table.raw_set("set_statistics", lua.create_function(set_statistics)?)?;
    table.raw_set(
        "peername",
        lua.create_function(|lua, this: This| name(lua, &this, TlsSocket::peer_address))?,
    )?;
    table.raw_set(
        "sockname",
        lua.create_function(|lua, this: This| name(lua, &this, TlsSocket::local_address))?,
    )?;
    table.raw_set(
        "close",
        lua.create_function(|_, mut this: This| {
            this.with(TlsSocket::close);
            Ok(())
        })?,
    )?;
    Ok(table)
}
