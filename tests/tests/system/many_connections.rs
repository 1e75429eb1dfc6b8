//! One Lua process holds many connections at a time.

use luassl_tests::daemon::Daemon;
use luassl_tests::echo;
use luassl_tests::lua::{LUA51, LUA54, LUAJIT, Lua};
use luassl_tests::process::Process;

/// Starts an echo server of `tests/lua` and reads its port.
pub(crate) fn start_echo(daemon: &Daemon, lua: Lua, program: &str) -> (Process, u16) {
    let mut server = lua.run(daemon, program, &[]);
    let port = server.line().trim().parse().unwrap_or_else(|_| panic!("no port\n{}", server.transcript()));
    (server, port)
}

fn holds(lua: Lua, program: &str, count: usize) {
    let daemon = Daemon::start();
    let (_server, port) = start_echo(&daemon, lua, program);
    let mut connections = echo::open(port, count);
    for round in 0..3 {
        echo::echo_on_all(&mut connections, round);
    }
}

#[test]
fn select_holds_300_on_lua_5_4() {
    holds(LUA54, "echo_select.lua", 300);
}

#[test]
fn select_holds_300_on_lua_5_1() {
    holds(LUA51, "echo_select.lua", 300);
}

#[test]
fn poll_holds_1000() {
    holds(LUAJIT, "echo_poll.lua", 1000);
}
