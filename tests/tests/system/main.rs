//! The promises of luassl, each checked on the whole: `luassld run` as `make` built it, real Lua interpreters, real
//! peers. `make` has to come first.

#[macro_use]
mod every_lua;

mod activation;
mod api;
mod attacks;
mod audit;
mod bad_input;
mod beyond;
mod bulk_and_ends;
mod check_command;
mod constants_on_the_wire;
mod demo;
mod documents;
mod event_loops;
mod grants;
mod hostile;
mod https;
mod luasec;
mod luasec_peers;
mod many_connections;
mod prosody;
mod quickstart;
mod renewal;
mod restarts;
mod resumption;
mod samples;
mod secrets;
mod shared_listener;
mod wire;
