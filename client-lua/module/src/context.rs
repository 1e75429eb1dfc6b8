//! Contexts as userdata. They open connections and create listeners.

use crate::listener::ListenerHandle;
use crate::options;
use crate::pending_connection::PendingConnectionHandle;
use crate::results::{Returned, fail_to_make, misuse, outcome, timeout, value};
use crate::shared::Shared;
use luassl_client::{Adopted, ConnectOptions, Context, Listener, PendingConnection};
use luassl_protocol::Role;
use mlua::prelude::*;
use std::rc::Rc;

/// One object's reference to a context.
pub(crate) struct ContextHandle {
    pub(crate) shared: Rc<Shared>,
    pub(crate) context: Option<Rc<Context>>,
}

impl LuaUserData for ContextHandle {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("dial", |lua, this, (address, port, expected): (String, u16, Option<String>)| {
            let Some(context) = &this.context else { return misuse(lua, RELEASED) };
            let options = ConnectOptions::client(&address, expected.as_deref());
            this.pending_connection(lua, PendingConnection::dial(context, &address, port, options))
        });
        methods.add_method("attach", attach);
        methods.add_method("bind", |lua, this, (port, address): (u16, Option<String>)| {
            let Some(context) = &this.context else { return misuse(lua, RELEASED) };
            this.listener(lua, Listener::bind(context, port, address.as_deref()))
        });
        methods.add_method("configured", |lua, this, name: String| {
            let Some(context) = &this.context else { return misuse(lua, RELEASED) };
            this.listener(lua, Listener::configured(context, &name))
        });
        // Returns a reference for another object.
        methods.add_method("share", |_, this, ()| {
            Ok(Self { shared: Rc::clone(&this.shared), context: this.context.clone() })
        });
        // When the last reference is released, the daemon frees the context.
        methods.add_method_mut("release", |_, this, ()| {
            if let Some(context) = this.context.take() {
                Context::release(context);
            }
            Ok(())
        });
    }
}

const RELEASED: &str = "the context was released: call wrap again";

impl ContextHandle {
    fn pending_connection(
        &self,
        lua: &Lua,
        pending: Result<PendingConnection, luassl_client::Error>,
    ) -> Returned {
        outcome(lua, pending, |pending| {
            value(lua, lua.create_userdata(PendingConnectionHandle::new(&self.shared, pending))?)
        })
    }

    fn listener(&self, lua: &Lua, listener: Result<Listener, luassl_client::Error>) -> Returned {
        outcome(lua, listener, |listener| {
            value(lua, lua.create_userdata(ListenerHandle::new(&self.shared, listener))?)
        })
    }
}

type AttachArguments = (i32, bool, Option<String>, Option<String>, Option<f64>);

fn attach(
    lua: &Lua,
    this: &ContextHandle,
    (number, server, host, sni, seconds): AttachArguments,
) -> Returned {
    let Some(context) = &this.context else { return misuse(lua, RELEASED) };
    let socket = match Adopted::new(number) {
        Ok(socket) => socket,
        Err(error) => return misuse(lua, &error.to_string()),
    };
    let role = if server { Role::Server } else { Role::Client };
    let options = ConnectOptions { role, host, sni };
    this.pending_connection(lua, PendingConnection::attach(context, socket, options, timeout(seconds)))
}

/// `context(options)`: returns a context, or `nil, message, code`, or `nil, message` for an error that the
/// caller throws.
pub(crate) fn context(lua: &Lua, shared: &Rc<Shared>, options: &LuaTable) -> Returned {
    let context_request = match options::context_request(options) {
        Ok(context_request) => context_request,
        Err(options::Fault::Misuse(message)) => return (LuaNil, message).into_lua_multi(lua),
        Err(options::Fault::Failed(message)) => return misuse(lua, &message),
    };
    match Context::new(&shared.client, context_request) {
        Ok(context) => {
            let handle = ContextHandle { shared: Rc::clone(shared), context: Some(context) };
            value(lua, lua.create_userdata(handle)?)
        }
        Err(error) => fail_to_make(lua, &error),
    }
}
