//! The native half of the Lua module luassl: objects of [`luassl_client`] as userdata, and the conventions of results
//! (`nil, message, code`). Arguments are checked in Lua, so that misuse is thrown at the caller's level.

mod listener;
mod luasec;
mod opening;
mod options;
mod results;
mod secured;
mod stream;

use listener::ListenerHandle;
use luassl_client::{Adopted, Client, Context, Listener, Opening, Terms};
use luassl_protocol::{Constant, OPTIONS, Role, VERIFY};
use mlua::prelude::*;
use opening::OpeningHandle;
use results::{Returned, fail, misuse, outcome, timeout, value};
use std::cell::RefCell;
use std::rc::Rc;

/// What one read takes at most: the front sends up to so much in one piece.
const BUFFER: usize = 128 << 10;

/// What all objects of one Lua state share.
struct Shared {
    client: Rc<Client>,
    buffer: RefCell<Vec<u8>>,
    /// For the answers on lock-step connections.
    scratch: RefCell<Vec<u8>>,
}

impl Shared {
    /// Runs `work` with the buffer, which is allocated when it is first needed. A finaliser of the program's may run
    /// while a string is made, and read in its turn: it gets a buffer of its own.
    fn with_buffer<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut buffer = self.buffer.take();
        if buffer.is_empty() {
            buffer.resize(BUFFER, 0);
        }
        let result = work(&mut buffer);
        self.buffer.replace(buffer);
        result
    }
}

/// One object's hold on a context.
struct ContextHandle {
    shared: Rc<Shared>,
    context: Option<Rc<Context>>,
}

impl LuaUserData for ContextHandle {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("dial", |lua, this, (address, port, expected): (String, u16, Option<String>)| {
            let Some(context) = &this.context else { return misuse(lua, RELEASED) };
            let terms = Terms::client(&address, expected.as_deref());
            this.opening(lua, Opening::dial(context, &address, port, terms))
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
        // Another object's hold on it.
        methods.add_method("share", |_, this, ()| {
            Ok(Self { shared: Rc::clone(&this.shared), context: this.context.clone() })
        });
        // When the last hold is released, the daemon gets the context back.
        methods.add_method_mut("release", |_, this, ()| {
            if let Some(context) = this.context.take() {
                Context::release(context);
            }
            Ok(())
        });
    }
}

const RELEASED: &str = "the context was given back: call wrap again";

impl ContextHandle {
    fn opening(&self, lua: &Lua, opening: Result<Opening, luassl_client::Error>) -> Returned {
        outcome(lua, opening, |opening| {
            value(lua, lua.create_userdata(OpeningHandle::new(&self.shared, opening))?)
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
    let terms = Terms { role, host, sni };
    this.opening(lua, Opening::attach(context, socket, terms, timeout(seconds)))
}

/// `context(options)`: a context, `nil, message, code`, or `nil, message` for what the caller should throw.
fn context(lua: &Lua, shared: &Rc<Shared>, options: &LuaTable) -> Returned {
    let recipe = match options::recipe(options) {
        Ok(recipe) => recipe,
        Err(options::Fault::Misuse(message)) => return (LuaNil, message).into_lua_multi(lua),
        Err(options::Fault::Failed(message)) => return misuse(lua, &message),
    };
    match Context::new(&shared.client, recipe) {
        Ok(context) => {
            let handle = ContextHandle { shared: Rc::clone(shared), context: Some(context) };
            value(lua, lua.create_userdata(handle)?)
        }
        Err(error) => fail(lua, &error),
    }
}

fn constants(lua: &Lua) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    for Constant { name, value } in OPTIONS.iter().chain(VERIFY) {
        // All values are below 2^53, so that they are exact as the doubles of Lua 5.1 to 5.2 and LuaJIT.
        table.raw_set(*name, i64::try_from(*value).unwrap_or(i64::MAX))?;
    }
    Ok(table)
}

/// `require "luassl_core"`: for luassl.lua alone. No daemon is needed to load it.
#[mlua::lua_module(skip_memory_check)]
fn luassl_core(lua: &Lua) -> LuaResult<LuaTable> {
    let version: String = lua.globals().raw_get("_VERSION")?;
    let name = format!("luassl {} ({version})", env!("CARGO_PKG_VERSION"));
    let (client, buffer, scratch) = (Client::new(name, None), RefCell::default(), RefCell::default());
    let shared = Rc::new(Shared { client, buffer, scratch });
    let module = lua.create_table()?;
    module.raw_set("version", env!("CARGO_PKG_VERSION"))?;
    module.raw_set("constants", constants(lua)?)?;
    module.raw_set("secured", secured::functions(lua, &shared)?)?;
    module.raw_set("luasec", luasec::functions(lua, &shared)?)?;
    module.raw_set(
        "context",
        lua.create_function(move |lua, options: LuaTable| context(lua, &shared, &options))?,
    )?;
    Ok(module)
}
