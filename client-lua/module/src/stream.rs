//! A connection as userdata.

use crate::results::{Returned, done, fail, misuse, outcome, timeout, value};
use crate::shared::Shared;
use luassl_client::{Stream, Timeout};
use luassl_protocol::{Info, LuaCode, PeerCertificate, SocketOption};
use mlua::prelude::*;
use std::os::fd::AsRawFd;
use std::rc::Rc;

pub(crate) struct StreamHandle {
    shared: Rc<Shared>,
    stream: Stream,
}

impl StreamHandle {
    pub(crate) fn new(shared: &Rc<Shared>, stream: Stream) -> Self {
        Self { shared: Rc::clone(shared), stream }
    }

    /// Returns data, or `nil, code, message`.
    fn read(lua: &Lua, this: &mut Self, (size, seconds): (Option<usize>, Option<f64>)) -> Returned {
        let Self { shared, stream } = this;
        shared.with_buffer(|buffer| {
            let size = size.unwrap_or(buffer.len()).min(buffer.len());
            match stream.read(&mut buffer[..size], timeout(seconds)) {
                Ok(length) => value(lua, lua.create_string(&buffer[..length])?),
                Err(error) => (LuaNil, error.code as i32, error.message).into_lua_multi(lua),
            }
        })
    }

    /// Returns nothing, or `code, message, bytes written`.
    fn write(lua: &Lua, this: &mut Self, (data, seconds): (LuaString, Option<f64>)) -> Returned {
        match this.stream.write(&data.as_bytes(), timeout(seconds)) {
            Ok(()) => Ok(LuaMultiValue::new()),
            Err(failed) => {
                let code = failed.error.code as i32;
                (code, failed.error.message, failed.written).into_lua_multi(lua)
            }
        }
    }

    fn close(lua: &Lua, this: &mut Self, seconds: Option<f64>) -> Returned {
        let Self { shared, stream } = this;
        if timeout(seconds).is_zero() {
            return done(lua, stream.close(&mut [], Timeout::After(std::time::Duration::ZERO)));
        }
        done(lua, shared.with_buffer(|buffer| stream.close(buffer, timeout(seconds))))
    }

    fn info(lua: &Lua, this: &mut Self, seconds: Option<f64>) -> Returned {
        outcome(lua, this.stream.info(timeout(seconds)), |info| value(lua, info_table(lua, &info)?))
    }

    fn certificate(lua: &Lua, this: &mut Self, seconds: Option<f64>) -> Returned {
        match this.stream.peer_certificate(timeout(seconds)) {
            Ok(Some(certificate)) => value(lua, certificate_table(lua, &certificate)?),
            Ok(None) => value(lua, LuaNil),
            Err(error) => fail(lua, &error),
        }
    }

    fn matches(lua: &Lua, this: &mut Self, (host, seconds): (String, Option<f64>)) -> Returned {
        match this.stream.peer_matches(&host, timeout(seconds)) {
            Ok(true) => value(lua, true),
            Ok(false) => {
                let message = format!("the peer's certificate is not for {host}");
                (LuaNil, message, LuaCode::Verification as i32).into_lua_multi(lua)
            }
            Err(error) => fail(lua, &error),
        }
    }

    fn export(
        lua: &Lua,
        this: &mut Self,
        (label, length, context, seconds): (String, u32, Option<LuaString>, Option<f64>),
    ) -> Returned {
        let context = context.map(|context| context.as_bytes().to_vec());
        let exported = this.stream.export(&label, length, context.as_deref(), timeout(seconds));
        outcome(lua, exported, |data| value(lua, lua.create_string(&data)?))
    }

    fn set_option(lua: &Lua, this: &mut Self, (name, on, seconds): (String, bool, Option<f64>)) -> Returned {
        let option = match name.as_str() {
            "tcp-nodelay" => SocketOption::NoDelay,
            "keepalive" => SocketOption::KeepAlive,
            _ => return misuse(lua, &format!("unknown option '{name}': use tcp-nodelay or keepalive")),
        };
        done(lua, this.stream.set_option(option, on, timeout(seconds)))
    }
}

impl LuaUserData for StreamHandle {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("read", Self::read);
        methods.add_method_mut("write", Self::write);
        methods.add_method_mut("close", Self::close);
        methods.add_method_mut("cut", |_, this, ()| {
            this.stream.cut();
            Ok(())
        });
        methods.add_method_mut("info", Self::info);
        methods.add_method_mut("certificate", Self::certificate);
        methods.add_method_mut("matches", Self::matches);
        methods.add_method_mut("export", Self::export);
        methods.add_method_mut("setoption", Self::set_option);
        methods.add_method_mut("renegotiate", |lua, this, seconds: Option<f64>| {
            done(lua, this.stream.renegotiate(timeout(seconds)))
        });
        methods.add_method("pending", |lua, this, ()| {
            outcome(lua, this.stream.pending(), |count| value(lua, count))
        });
        methods.add_method("isopen", |_, this, ()| Ok(this.stream.is_open()));
        methods.add_method("getfd", |_, this, ()| Ok(this.stream.descriptor().map(|fd| fd.as_raw_fd())));
        methods.add_method("addresses", |_, this, ()| {
            let info = this.stream.known();
            Ok((info.peer.clone(), info.local.clone()))
        });
    }
}

fn info_table(lua: &Lua, info: &Info) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    table.raw_set("protocol", info.protocol.as_str())?;
    table.raw_set("cipher", info.cipher.as_str())?;
    table.raw_set("bits", info.bits)?;
    table.raw_set("group", info.group.as_deref())?;
    table.raw_set("reused", info.reused)?;
    table.raw_set("alpn", info.alpn.as_deref())?;
    table.raw_set("sni", info.sni.as_deref())?;
    table.raw_set("verified", info.peer_certificate && info.verify_code == 0)?;
    table.raw_set("verify_code", info.verify_code)?;
    table.raw_set("verify", info.verify_text.as_str())?;
    table.raw_set("peer_certificate", info.peer_certificate)?;
    table.raw_set("peer", info.peer.as_str())?;
    table.raw_set("address", info.local.as_str())?;
    Ok(table)
}

fn certificate_table(lua: &Lua, certificate: &PeerCertificate) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    table.raw_set("pem", certificate.pem.as_str())?;
    table.raw_set("subject", certificate.subject.as_str())?;
    table.raw_set("issuer", certificate.issuer.as_str())?;
    table.raw_set("names", certificate.names.as_slice())?;
    table.raw_set("not_before", certificate.not_before)?;
    table.raw_set("not_after", certificate.not_after)?;
    table.raw_set("serial", certificate.serial.as_str())?;
    table.raw_set("sha1", certificate.sha1.as_str())?;
    table.raw_set("sha256", certificate.sha256.as_str())?;
    let chain = lua.create_table()?;
    for der in &certificate.chain {
        chain.raw_push(lua.create_string(der)?)?;
    }
    table.raw_set("chain", chain)?;
    Ok(table)
}
