//! `lua5.5 [-l MODULE]... [-e CHUNK]... [SCRIPT [ARGUMENT]...]`: as much of the standalone interpreter as the tests
//! need. It exports Lua's C API, so that `require` loads C modules built for Lua 5.5.
#![allow(unsafe_code, reason = "the C API of Lua")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::process::ExitCode;

type Function = unsafe extern "C" fn(*mut c_void) -> c_int;

unsafe extern "C" {
    fn luaL_newstate() -> *mut c_void;
    fn luaL_openselectedlibs(state: *mut c_void, load: c_int, preload: c_int);
    fn luaL_loadfilex(state: *mut c_void, name: *const c_char, mode: *const c_char) -> c_int;
    fn luaL_loadstring(state: *mut c_void, chunk: *const c_char) -> c_int;
    fn luaL_traceback(state: *mut c_void, of: *mut c_void, message: *const c_char, level: c_int);
    fn luaL_tolstring(state: *mut c_void, index: c_int, length: *mut usize) -> *const c_char;
    fn lua_pcallk(
        state: *mut c_void,
        arguments: c_int,
        results: c_int,
        handler: c_int,
        context: isize,
        k: *const c_void,
    ) -> c_int;
    fn lua_tolstring(state: *mut c_void, index: c_int, length: *mut usize) -> *const c_char;
    fn lua_pushstring(state: *mut c_void, text: *const c_char) -> *const c_char;
    fn lua_pushcclosure(state: *mut c_void, function: Function, upvalues: c_int);
    fn lua_createtable(state: *mut c_void, array: c_int, hash: c_int);
    fn lua_rawseti(state: *mut c_void, index: c_int, n: i64);
    fn lua_setglobal(state: *mut c_void, name: *const c_char);
    fn lua_getglobal(state: *mut c_void, name: *const c_char) -> c_int;
    fn lua_settop(state: *mut c_void, index: c_int);
    fn lua_rotate(state: *mut c_void, index: c_int, n: c_int);
    fn lua_close(state: *mut c_void);
}

const ALL_LIBRARIES: c_int = -1;

struct Lua(*mut c_void);

impl Lua {
    fn new() -> Option<Self> {
        // SAFETY: no preconditions; the result is checked before its use.
        let state = unsafe { luaL_newstate() };
        if state.is_null() {
            return None;
        }
        // SAFETY: `state` is a fresh Lua state.
        unsafe {
            luaL_openselectedlibs(state, ALL_LIBRARIES, 0);
            lua_settop(state, 0);
        }
        Some(Self(state))
    }

    /// Sets the global `arg`: the script at 0, its arguments from 1.
    fn set_arguments(&self, arguments: &[CString]) {
        // SAFETY: the state is live, and each call leaves the stack as the next one needs it: one table on top.
        unsafe {
            lua_createtable(self.0, 0, 0);
            for (n, argument) in arguments.iter().enumerate() {
                lua_pushstring(self.0, argument.as_ptr());
                lua_rawseti(self.0, -2, n as i64);
            }
            lua_setglobal(self.0, c"arg".as_ptr());
        }
    }

    /// `NAME = require "NAME"`, as the standalone interpreter's `-l`.
    fn require(&self, module: &CStr) -> Result<(), String> {
        // SAFETY: the state is live; `require` and its argument are pushed before the call, which pops both.
        unsafe {
            lua_getglobal(self.0, c"require".as_ptr());
            lua_pushstring(self.0, module.as_ptr());
            self.call(1, 1)?;
            lua_setglobal(self.0, module.as_ptr());
        }
        Ok(())
    }

    fn run_string(&self, chunk: &CStr) -> Result<(), String> {
        // SAFETY: the state is live; a chunk that loads is on top of the stack, one that does not is a message.
        let status = unsafe { luaL_loadstring(self.0, chunk.as_ptr()) };
        self.run_loaded(status, 0)
    }

    fn run_file(&self, arguments: &[CString]) -> Result<(), String> {
        // SAFETY: as `run_string`.
        let status = unsafe { luaL_loadfilex(self.0, arguments[0].as_ptr(), std::ptr::null()) };
        let mut count = 0;
        if status == 0 {
            for argument in &arguments[1..] {
                // SAFETY: the state is live.
                unsafe { lua_pushstring(self.0, argument.as_ptr()) };
                count += 1;
            }
        }
        self.run_loaded(status, count)
    }

    fn run_loaded(&self, status: c_int, arguments: c_int) -> Result<(), String> {
        if status == 0 { self.call(arguments, 0) } else { Err(self.take_message()) }
    }

    /// Calls the function below `arguments` values, with a traceback in an error's message.
    fn call(&self, arguments: c_int, results: c_int) -> Result<(), String> {
        // SAFETY: the state is live. The handler goes below the function; afterwards the results, or one error
        // value in their place, lie above it, and it is rotated to the top and dropped.
        let status = unsafe {
            lua_pushcclosure(self.0, traceback, 0);
            lua_rotate(self.0, -(arguments + 2), 1);
            let status = lua_pcallk(self.0, arguments, results, -(arguments + 2), 0, std::ptr::null());
            let above = if status == 0 { results } else { 1 };
            lua_rotate(self.0, -(above + 1), -1);
            lua_settop(self.0, -2);
            status
        };
        if status == 0 { Ok(()) } else { Err(self.take_message()) }
    }

    fn take_message(&self) -> String {
        // SAFETY: the state is live, and an error's value is on top of the stack.
        unsafe {
            let text = lua_tolstring(self.0, -1, std::ptr::null_mut());
            let message = if text.is_null() {
                "(error object is not a string)".to_owned()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            };
            lua_settop(self.0, -2);
            message
        }
    }
}

impl Drop for Lua {
    fn drop(&mut self) {
        // SAFETY: the state is live and not used again.
        unsafe { lua_close(self.0) };
    }
}

unsafe extern "C" fn traceback(state: *mut c_void) -> c_int {
    // SAFETY: Lua calls this with its live state and the error's value at index 1.
    unsafe {
        let message = luaL_tolstring(state, 1, std::ptr::null_mut());
        luaL_traceback(state, state, message, 1);
    }
    1
}

fn run(lua: &Lua, mut arguments: &[CString]) -> Result<(), String> {
    while let [option, value, rest @ ..] = arguments {
        match option.to_bytes() {
            b"-l" => lua.require(value)?,
            b"-e" => lua.run_string(value)?,
            _ => break,
        }
        arguments = rest;
    }
    if arguments.is_empty() {
        return Ok(());
    }
    lua.set_arguments(arguments);
    lua.run_file(arguments)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).filter_map(|text| CString::new(text).ok()).collect();
    let Some(lua) = Lua::new() else {
        eprintln!("lua5.5: not enough memory");
        return ExitCode::FAILURE;
    };
    match run(&lua, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("lua5.5: {message}");
            ExitCode::FAILURE
        }
    }
}
