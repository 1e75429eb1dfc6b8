//! Attack 18 from Lua: two tenants, each with a front of its own, under one keeper.

use crate::api::{accepted, serve};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::process::{Process, children, command_line, signal_pid};
use luassl_tests::repository;
use rustix::process::Signal;

/// The tenants: name, key, and how many bits it has, by which a peer tells the identities apart.
const TENANTS: [(&str, &str, u32); 2] = [("shop", "server-rsa", 2048), ("blog", "server-p256", 256)];

/// Each tenant's grants cover every identity: what keeps them apart is which front they come in by.
fn two_fronts() -> Daemon {
    let mut config = "[control]\nsocket = 'SOCKET'\n[front.default]\nidentities = []\n".to_owned();
    for (name, key, _) in TENANTS {
        config += &format!(
            "[identity.{name}]\nkey = 'PKI/keys/{key}.pem'\n[socket.{name}]\npath = 'DIR/{name}.sock'\n\
             [front.{name}]\nidentities = ['{name}']\nsockets = ['{name}']\n\
             [[grant]]\nsocket = '{name}'\nidentities = ['*']\n"
        );
    }
    Daemon::with_config(&config)
}

/// A tenant's program.
fn program(daemon: &Daemon, tenant: &str) -> Agent {
    let mut command = LUA54.command_at(&daemon.directory().join(format!("{tenant}.sock")));
    let mut agent = Agent::of(Process::start(command.arg(repository().join("tests/lua/agent.lua"))));
    agent.run("ssl = require 'luassl'");
    agent
}

fn serves_its_own(agent: &mut Agent, tenant: &str, bits: u32) {
    let port = serve(agent, &format!("ssl.wrap('{tenant}')"));
    let tls = accepted(agent, port);
    let key = tls.ssl().peer_certificate().expect("a certificate").public_key().expect("a key");
    assert_eq!(key.bits(), bits);
}

fn front_of(daemon: &Daemon, tenant: &str) -> u32 {
    let named = |pid: &u32| command_line(*pid).contains(&format!("--name {tenant}"));
    children(daemon.pid()).into_iter().find(named).expect("the tenant's front")
}

#[test]
fn attack_18_each_tenants_program_serves_its_own_identity() {
    let daemon = two_fronts();
    for (tenant, _, bits) in TENANTS {
        serves_its_own(&mut program(&daemon, tenant), tenant, bits);
    }
}

#[test]
fn attack_18_anothers_identity_is_unknown_to_a_tenants_program() {
    let daemon = two_fronts();
    for (tenant, other) in [("shop", "blog"), ("blog", "shop")] {
        let mut agent = program(&daemon, tenant);
        let theirs = agent.run(&format!("return ssl.wrap('{other}')"));
        let nobodys = agent.run("return ssl.wrap('none')");
        assert_eq!(theirs.replace(other, "NAME"), nobodys.replace("none", "NAME"));
        assert!(theirs.starts_with("nil, ") && theirs.ends_with(", -6"), "{theirs}");
    }
}

#[test]
fn attack_18_one_tenants_front_that_ends_leaves_the_others_serving() {
    let daemon = two_fronts();
    let mut shop = program(&daemon, "shop");
    let port = serve(&mut shop, "ssl.wrap('shop')");
    let before = front_of(&daemon, "shop");
    signal_pid(front_of(&daemon, "blog"), Signal::KILL);
    let _tls = accepted(&mut shop, port);
    assert_eq!(front_of(&daemon, "shop"), before);
}

/// A front for a tenant is a process for a tenant.
#[test]
fn attack_18_tenants_have_processes_of_their_own() {
    let daemon = two_fronts();
    let fronts = TENANTS.map(|(tenant, ..)| front_of(&daemon, tenant));
    assert_ne!(fronts[0], fronts[1]);
}
