//! A grant allows whole operations, and Lua can tighten it but never loosen it.

use crate::api::{accepted, serve};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{self, Server};
use luassl_tests::process::Process;
use luassl_tests::repository;

/// A daemon with two identities and these grants.
fn with_grants(grants: &str) -> Daemon {
    Daemon::with_config(&format!(
        "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'PKI/keys/server.pem'\n\
         [identity.other]\nkey = 'PKI/keys/client.pem'\n[socket.tenant]\npath = 'DIR/tenant.sock'\n{grants}"
    ))
}

fn refused(answer: &str, words: &[&str]) {
    assert!(answer.starts_with("nil, ") && answer.ends_with(", -6"), "{answer}");
    for word in words {
        assert!(answer.contains(word), "no {word:?} in {answer}");
    }
}

#[test]
fn without_a_grant_there_is_nothing() {
    let daemon = with_grants("");
    let mut agent = Agent::start(&daemon, LUA54);
    refused(&agent.run("return ssl.wrap('site')"), &["grant"]);
}

#[test]
fn one_grant_has_to_allow_the_whole_operation() {
    let daemon = with_grants(
        "[[grant]]\nuser = UID\nidentities = ['site']\nroles = ['client']\n\
         [[grant]]\nuser = UID\nidentities = ['other']\nroles = ['server']\n",
    );
    let mut agent = Agent::start(&daemon, LUA54);
    let answer =
        agent.run("local s, m, c = ssl.wrap('site') if not s then return s, m, c end return s:bind(0)");
    refused(&answer, &[]);
    assert_eq!(agent.run("s = assert(ssl.wrap('other')) return s:bind(0)"), "true");
}

#[test]
fn a_grant_to_a_named_socket_is_for_whoever_comes_in_by_it() {
    let daemon = with_grants("[[grant]]\nsocket = 'tenant'\nidentities = ['site']\nroles = ['server']\n");
    let mut agent = Agent::start(&daemon, LUA54);
    refused(&agent.run("return ssl.wrap('site')"), &[]);
    let mut command = LUA54.command_at(&daemon.directory().join("tenant.sock"));
    let mut tenant = Agent::of(Process::start(command.arg(repository().join("tests/lua/agent.lua"))));
    tenant.run("ssl = require 'luassl'");
    let port = serve(&mut tenant, "ssl.wrap('site')");
    let _tls = accepted(&mut tenant, port);
}

#[test]
fn listening_and_connecting_can_be_withheld() {
    let daemon = with_grants(
        "[[grant]]\nuser = UID\nidentities = ['site']\nroles = ['server', 'client']\nlisten = false\n\
         connect = false\n",
    );
    let mut agent = Agent::start(&daemon, LUA54);
    refused(&agent.run("s = assert(ssl.wrap('site')) return s:bind(0)"), &["sockets", "server"]);
    let server = Server::start("server", |_| {});
    refused(&agent.run(&format!("return s:connect('localhost', {})", server.port())), &["sockets", "client"]);
}

#[test]
fn the_lowest_protocol_of_a_grant_holds_whatever_lua_says() {
    let daemon = with_grants(
        "[[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server']\nminimum_protocol = 'TLSv1.3'\n",
    );
    let mut agent = Agent::start(&daemon, LUA54);
    let port = serve(&mut agent, "ssl.wrap{key = 'site', minimum_protocol = 'TLSv1.2'}");
    agent.send("c = assert(s:accept())");
    assert!(peer::try_connect(&peer::connector(|builder| peer::only(builder, "TLSv1.2")), port).is_err());
    let tls = peer::connect(port);
    agent.answer();
    assert_eq!(tls.ssl().version_str(), "TLSv1.3");
}

#[test]
fn required_verification_holds_whatever_lua_says() {
    let daemon = with_grants("[[grant]]\nuser = UID\nroles = ['client']\nverify_required = true\n");
    let mut agent = Agent::start(&daemon, LUA54);
    let server = Server::start("server", |_| {});
    let answer = agent.run(
        "local c, m, code = ssl.wrap(nil, nil, nil, nil, nil, ssl.VERIFY_NONE) if not c then return c, m, code end \
         return c",
    );
    if answer == "object" {
        agent.run("c = assert(ssl.wrap(nil, nil, nil, nil, nil, ssl.VERIFY_NONE))");
        agent.send(&format!("return c:connect('localhost', {}, false)", server.port()));
        let _refused = server.accept();
        assert!(agent.answer().starts_with("nil, "));
    } else {
        refused(&answer, &["verif"]);
    }
}

#[test]
fn a_quota_of_connections_bounds_an_owner() {
    let daemon = with_grants(
        "[[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server', 'client']\nmax_connections = 2\n",
    );
    let mut agent = Agent::start(&daemon, LUA54);
    let server = Server::start("server", |_| {});
    agent.run("w = assert(ssl.wrap(nil, 'keys/rootcert.pem')) kept = {}");
    let mut held = Vec::new();
    for n in 1..=2 {
        agent.send(&format!("kept[{n}] = w:new() return kept[{n}]:connect('localhost', {})", server.port()));
        let tls = server.accept().expect("a handshake");
        assert_eq!(agent.answer(), "true");
        held.push(tls);
    }
    let connect = format!("third = w:new() return third:connect('localhost', {})", server.port());
    refused(&agent.run(&connect), &["connections", "2"]);
    // Each attempt has a TCP connection of its own: this one was closed before its handshake.
    assert!(server.accept().is_err());
    agent.run("kept[1]:clear()");
    luassl_tests::until("room for another", || {
        agent.send(&connect);
        let _tls = server.accept();
        agent.answer() == "true"
    });
    drop(held);
}

#[test]
fn a_quota_of_contexts_bounds_an_owner() {
    let daemon =
        with_grants("[[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server']\nmax_contexts = 3\n");
    let mut agent = Agent::start(&daemon, LUA54);
    let chunk = "kept = {} for n = 1, 10 do local s, message, code = ssl.wrap{key = 'site', depth = n} \
                 if not s then return s, message, code end kept[n] = s end return 'never'";
    refused(&agent.run(chunk), &["contexts"]);
    agent.run("kept = nil collectgarbage() collectgarbage()");
    luassl_tests::until("room for another", || {
        agent.run("return ssl.wrap{key = 'site', depth = 20} ~= nil") == "true"
    });
}

#[test]
fn free_gives_the_context_back_at_once_and_only_when_nobody_else_has_it() {
    let daemon =
        with_grants("[[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server']\nmax_contexts = 1\n");
    let mut agent = Agent::start(&daemon, LUA54);
    let mut other = Agent::start(&daemon, LUA54);
    // Nothing of this is the collector's doing: it is another process that finds room.
    agent.run("collectgarbage('stop')");
    let has_room = |other: &mut Agent| {
        other.run("w = ssl.wrap{key = 'other'} local has = w ~= nil if w then w:free() end return has")
            == "true"
    };
    let port = serve(&mut agent, "ssl.wrap('site')");
    let tls = accepted(&mut agent, port);
    agent.run("n = assert(s:new()) s:free()");
    assert!(!has_room(&mut other), "a connection and another object have it");
    agent.run("n:free()");
    assert!(!has_room(&mut other), "the connection's object has it");
    agent.run("c:free()");
    assert!(has_room(&mut other));
    drop(tls);
}

#[test]
fn a_context_that_another_wrap_replaces_is_given_back() {
    let daemon =
        with_grants("[[grant]]\nuser = UID\nidentities = ['*']\nroles = ['server']\nmax_contexts = 2\n");
    let mut agent = Agent::start(&daemon, LUA54);
    let mut other = Agent::start(&daemon, LUA54);
    agent.run("collectgarbage('stop') s = assert(ssl.wrap('site')) assert(s:wrap('other'))");
    assert_eq!(other.run("return ssl.wrap('site') ~= nil"), "true");
}

#[test]
fn a_relative_path_does_not_tell_whether_an_identity_is_there() {
    let daemon = with_grants("[[grant]]\nuser = UID\nidentities = ['site']\n");
    let mut agent = Agent::start(&daemon, LUA54);
    let mut told = |name: &str| {
        let answer = agent.run(&format!("return ssl.wrap('{name}')"));
        assert!(answer.contains(name), "{answer}");
        answer.replace(name, "NAME")
    };
    // `keys/client.pem` is there, and not granted.
    let forbidden = told("keys/client.pem");
    refused(&forbidden, &["NAME", "is not known, or not granted"]);
    assert_eq!(told("keys/nobody.pem"), forbidden);
    assert_eq!(told("./keys/../keys/client.pem"), forbidden);
    assert_eq!(told("other"), forbidden);
}

mod needs_root {
    use super::*;
    use std::process::Command;

    /// A program of root's with one supplementary group.
    fn in_group(daemon: &Daemon, group: &str) -> Agent {
        let lua = LUA54.command(daemon);
        let mut command = Command::new("setpriv");
        command.args(["--groups", group]).arg(lua.get_program()).args(lua.get_args());
        command.envs(lua.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(lua.get_current_dir().expect("the PKI's directory"));
        let mut agent = Agent::of(Process::start(command.arg(repository().join("tests/lua/agent.lua"))));
        agent.run("ssl = require 'luassl'");
        agent
    }

    #[test]
    fn a_grant_to_a_group_is_for_those_who_have_it_beside_their_own() {
        let daemon = with_grants("[[grant]]\ngroup = 54329\nidentities = ['site']\n");
        assert_eq!(in_group(&daemon, "54328,54329").run("return ssl.wrap('site') ~= nil"), "true");
        refused(&in_group(&daemon, "54328").run("return ssl.wrap('site')"), &["grant"]);
    }
}
