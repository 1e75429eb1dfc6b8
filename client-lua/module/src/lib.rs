//! The native half of the Lua module luassl.
