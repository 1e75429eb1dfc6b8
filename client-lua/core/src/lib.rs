//! The client of luassld without Lua: control connection, streams, listeners.
