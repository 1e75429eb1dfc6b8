//! A connection that is being established, as userdata.

use crate::results::{Returned, fail, misuse, timeout, value};
use crate::shared::Shared;
use crate::stream::StreamHandle;
use luassl_client::{Direction, PendingConnection};
use luassl_protocol::LuaCode;
use mlua::prelude::*;
use std::os::fd::AsRawFd;
use std::rc::Rc;

pub(crate) struct PendingConnectionHandle {
    shared: Rc<Shared>,
    /// The connection; `None` after it has succeeded or failed.
    pending: Option<PendingConnection>,
}

impl PendingConnectionHandle {
    pub(crate) fn new(shared: &Rc<Shared>, pending: PendingConnection) -> Self {
        Self { shared: Rc::clone(shared), pending: Some(pending) }
    }

    fn advance(lua: &Lua, this: &mut Self, seconds: Option<f64>) -> Returned {
        let Some(pending) = &mut this.pending else { return misuse(lua, ENDED) };
        match pending.advance(timeout(seconds)) {
            Ok(stream) => {
                this.pending = None;
                value(lua, lua.create_userdata(StreamHandle::new(&this.shared, stream))?)
            }
            Err(error) => {
                if error.code != LuaCode::Timeout {
                    this.pending = None;
                }
                fail(lua, &error)
            }
        }
    }
}

impl LuaUserData for PendingConnectionHandle {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("advance", Self::advance);
        // Returns the descriptor, and the event to poll for.
        methods.add_method("getfd", |_, this, ()| {
            let polled = this.pending.as_ref().and_then(PendingConnection::descriptor);
            Ok(polled.map_or((None, None), |(fd, direction)| {
                let direction = if direction == Direction::Read { "read" } else { "write" };
                (Some(fd.as_raw_fd()), Some(direction))
            }))
        });
        methods.add_method_mut("cut", |_, this, ()| {
            this.pending = None;
            Ok(())
        });
    }
}

const ENDED: &str = "this connection has failed: connect again";
