//! A connection in the making, as userdata.

use crate::results::{Returned, fail, misuse, timeout, value};
use crate::shared::Shared;
use crate::stream::StreamHandle;
use luassl_client::{Direction, Opening};
use luassl_protocol::LuaCode;
use mlua::prelude::*;
use std::os::fd::AsRawFd;
use std::rc::Rc;

pub(crate) struct OpeningHandle {
    shared: Rc<Shared>,
    /// None once it has ended, one way or the other.
    opening: Option<Opening>,
}

impl OpeningHandle {
    pub(crate) fn new(shared: &Rc<Shared>, opening: Opening) -> Self {
        Self { shared: Rc::clone(shared), opening: Some(opening) }
    }

    fn advance(lua: &Lua, this: &mut Self, seconds: Option<f64>) -> Returned {
        let Some(opening) = &mut this.opening else { return misuse(lua, ENDED) };
        match opening.advance(timeout(seconds)) {
            Ok(stream) => {
                this.opening = None;
                value(lua, lua.create_userdata(StreamHandle::new(&this.shared, stream))?)
            }
            Err(error) => {
                if error.code != LuaCode::Timeout {
                    this.opening = None;
                }
                fail(lua, &error)
            }
        }
    }
}

impl LuaUserData for OpeningHandle {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("advance", Self::advance);
        // The descriptor and what it has to be polled for.
        methods.add_method("getfd", |_, this, ()| {
            let polled = this.opening.as_ref().and_then(Opening::descriptor);
            Ok(polled.map_or((None, None), |(fd, direction)| {
                let direction = if direction == Direction::Read { "read" } else { "write" };
                (Some(fd.as_raw_fd()), Some(direction))
            }))
        });
        methods.add_method_mut("cut", |_, this, ()| {
            this.opening = None;
            Ok(())
        });
    }
}

const ENDED: &str = "this connection has failed: connect again";
