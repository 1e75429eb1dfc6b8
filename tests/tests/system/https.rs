//! `ssl.https` over LuaSocket's http: the same requests of nginx and of `openssl s_server`, once by LuaSec itself, once by
//! luassl's, and once by the file that LuaSec has for it, over luassl's `ssl`.

use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{LUA51, LUA54, LUAJIT, Lua};
use luassl_tests::nginx::Nginx;
use luassl_tests::process::Process;
use luassl_tests::{peer, pki, repository};

/// Two servers with TLS, and one without.
const SERVERS: &str = r#"
    ssl_certificate PKI/keys/server.pem;
    ssl_certificate_key PKI/keys/server.pem;
    ssl_client_certificate PKI/ca/root.crt;
    ssl_verify_client optional;
    ssl_protocols TLSv1.2 TLSv1.3;
    absolute_redirect off;
    map $request_method $far { default "https://localhost:PORT1/"; }
    server {
        listen 127.0.0.1:PORT0 ssl;
        location = / { return 200 "first $server_protocol $request_method\n"; }
        location = /relative { return 302 /; }
        location = /absolute { return 301 https://localhost:PORT0/?again; }
        location = /far { return 307 $far; }
        location = /steps { return 303 https://localhost:PORT0/far; }
        location = /loop { return 302 /loop; }
        location = /down { return 302 http://localhost:PORT2/; }
        location = /who { return 200 "$ssl_client_s_dn\n"; }
        location = /name { return 200 "$ssl_server_name $ssl_protocol\n"; }
        location = /large { set $part "PART"; return 200 "LARGE"; }
        location = /post { proxy_pass http://127.0.0.1:PORT2/; add_header X-Body $request_body; }
    }
    server {
        listen 127.0.0.1:PORT1 ssl;
        location = / { return 200 "second\n"; }
    }
    server {
        listen 127.0.0.1:PORT2;
        location = / { return 200 "plain\n"; }
        location = /up { return 301 https://localhost:PORT0/; }
    }
"#;

/// Which `ssl.https` it is: the program's last argument.
#[derive(Clone, Copy)]
enum Module {
    /// LuaSec with its own.
    LuaSec,
    /// The shim.
    Ours,
    /// LuaSec's file over luassl's `ssl`.
    TheirFile,
}

/// What the program is run with: the daemon has to be there until its end.
fn start(lua: Lua, module: Module, program: &str, arguments: &[&str]) -> (Process, Option<Daemon>) {
    let suite = repository().join("tests/luasec");
    let ours = !matches!(module, Module::LuaSec);
    let daemon = ours.then(|| Daemon::with_identities(&pki::keys()));
    let mut command = match &daemon {
        Some(daemon) => lua.luasec_command(daemon, &[]),
        None => lua.plain_command(&[&suite]),
    };
    command.arg(suite.join(program)).args(arguments).env_remove("http_proxy");
    if matches!(module, Module::TheirFile) {
        command.arg("their file");
    }
    (Process::start(&mut command), daemon)
}

fn with_nginx(lua: Lua, module: Module) {
    let servers = SERVERS.replace("PART", &"0123456789".repeat(100)).replace("LARGE", &"$part".repeat(64));
    let nginx = Nginx::start(&servers);
    let ports: Vec<_> = nginx.ports.iter().map(ToString::to_string).collect();
    let ports: Vec<_> = ports.iter().map(|port| &**port).collect();
    let (mut client, _daemon) = start(lua, module, "https_nginx.lua", &ports);
    let status = client.wait();
    assert!(status.success(), "{}\n{}", client.transcript(), nginx.transcript());
    client.expect("every request");
}

fn with_s_server(module: Module) {
    let (_server, port) = peer::s_server("server", &["-www"]);
    let (mut client, _daemon) = start(LUA54, module, "https.lua", &[&port.to_string()]);
    let status = client.wait();
    assert!(status.success(), "{}", client.transcript());
    client.expect("200");
}

#[test]
fn luasec_and_nginx() {
    with_nginx(LUA54, Module::LuaSec);
}
#[test]
fn ours_and_nginx() {
    for lua in [LUA51, LUA54, LUAJIT] {
        with_nginx(lua, Module::Ours);
    }
}
#[test]
fn their_file_over_ours_and_nginx() {
    with_nginx(LUA54, Module::TheirFile);
}
#[test]
fn luasec_and_s_server() {
    with_s_server(Module::LuaSec);
}
#[test]
fn ours_and_s_server() {
    with_s_server(Module::Ours);
}
#[test]
fn their_file_over_ours_and_s_server() {
    with_s_server(Module::TheirFile);
}
