//! A listener as userdata.

use crate::results::{Returned, done, fail, misuse, timeout, value};
use crate::shared::Shared;
use crate::stream::StreamHandle;
use luassl_client::{AcceptFilter, Accepted, Listener};
use mlua::prelude::*;
use std::os::fd::AsRawFd;
use std::rc::Rc;

pub(crate) struct ListenerHandle {
    shared: Rc<Shared>,
    listener: Option<Listener>,
}

impl ListenerHandle {
    pub(crate) fn new(shared: &Rc<Shared>, listener: Listener) -> Self {
        Self { shared: Rc::clone(shared), listener: Some(listener) }
    }

    /// Returns a stream or `nil, message, code`, with a fourth value if the handshake of a peer failed.
    fn accept(lua: &Lua, this: &mut Self, (report, seconds): (bool, Option<f64>)) -> Returned {
        let Some(listener) = &mut this.listener else { return misuse(lua, CLOSED) };
        let filter = if report { AcceptFilter::Reports } else { AcceptFilter::Connections };
        match listener.accept(filter, timeout(seconds)) {
            Ok(Accepted::Connection(stream)) => {
                value(lua, lua.create_userdata(StreamHandle::new(&this.shared, *stream))?)
            }
            Ok(Accepted::Failed(failure)) => {
                let code = failure.code.lua() as i32;
                (LuaNil, failure.message, code, "handshake").into_lua_multi(lua)
            }
            Err(error) => fail(lua, &error),
        }
    }
}

impl LuaUserData for ListenerHandle {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("accept", Self::accept);
        methods.add_method("address", |_, this, ()| {
            Ok(this.listener.as_ref().map(|listener| listener.address().to_owned()))
        });
        methods.add_method_mut("getfd", |_, this, seconds: Option<f64>| {
            let fd = this.listener.as_mut().and_then(|listener| listener.descriptor(timeout(seconds)));
            Ok(fd.map(|fd| fd.as_raw_fd()))
        });
        methods.add_method_mut("prefetch", |lua, this, ()| match &mut this.listener {
            Some(listener) => done(lua, listener.prefetch()),
            None => misuse(lua, CLOSED),
        });
        methods.add_method_mut("close", |_, this, ()| {
            if let Some(listener) = this.listener.take() {
                listener.close();
            }
            Ok(())
        });
    }
}

const CLOSED: &str = "the listener is closed: bind again";
