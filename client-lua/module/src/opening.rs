//! A connection in the making, as userdata.

use crate::Shared;
use crate::results::{Returned, outcome, timeout, value};
use crate::stream::StreamHandle;
use luassl_client::{Direction, Opening};
use mlua::prelude::*;
use std::os::fd::AsRawFd;
use std::rc::Rc;

pub(crate) struct OpeningHandle {
    shared: Rc<Shared>,
    opening: Opening,
}

impl OpeningHandle {
    pub(crate) fn new(shared: &Rc<Shared>, opening: Opening) -> Self {
        Self { shared: Rc::clone(shared), opening }
    }

    fn advance(lua: &Lua, this: &mut Self, seconds: Option<f64>) -> Returned {
        outcome(lua, this.opening.advance(timeout(seconds)), |stream| {
            value(lua, lua.create_userdata(StreamHandle::new(&this.shared, stream))?)
        })
    }
}

impl LuaUserData for OpeningHandle {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("advance", Self::advance);
        // The descriptor and what it has to be polled for.
        methods.add_method("getfd", |_, this, ()| {
            Ok(this.opening.descriptor().map_or((None, None), |(fd, direction)| {
                let direction = if direction == Direction::Read { "read" } else { "write" };
                (Some(fd.as_raw_fd()), Some(direction))
            }))
        });
    }
}
