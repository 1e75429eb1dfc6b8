//! Prosody of Debian, unmodified, over luassl: in place of its keys lie empty files.
//!
//! Needs Prosody 0.12, installed or, as `make deps` has it, unpacked: then `LUASSL_PROSODY` is the command for it, and
//! prosodyctl lies beside.

use crate::daemon::Daemon;
use crate::lua::LUA54;
use crate::pki::{self, Leaf, Pair};
use crate::process::{Process, signal_pid};
use crate::{peer, scratch, until};
use rustix::process::Signal;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Whom accounts belong to in every host: `juliet`, with this password.
pub const PASSWORD: &str = "r0m30myr0m30";

/// What an instance listens on.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Clients, with STARTTLS.
    pub client: u16,
    /// Clients, with TLS from the first byte.
    pub direct: u16,
    /// Other servers.
    pub server: u16,
    /// HTTPS.
    pub https: u16,
}

impl Ports {
    /// Ports that nobody had a moment ago.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn free() -> Self {
        let all = [(); 4].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
        let [client, direct, server, https] =
            all.map(|listener| listener.local_addr().expect("an address").port());
        Self { client, direct, server, https }
    }

    fn all(self) -> [u16; 4] {
        [self.client, self.direct, self.server, self.https]
    }
}

/// How an instance is to be.
pub struct Setup<'a> {
    /// Its virtual hosts, each with an identity of its own.
    pub hosts: &'a [&'a str],
    /// Where it listens.
    pub ports: Ports,
    /// The ports of the servers of other hosts, since there is no DNS here.
    pub routes: &'a [(&'a str, u16)],
    /// Whether the identities have chains. Without them what is served is Prosody's own file.
    pub chains: bool,
    /// Whether it goes to the background.
    pub daemonized: bool,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { hosts: &["localhost"], ports: Ports::free(), routes: &[], chains: true, daemonized: false }
    }
}

/// A running Prosody, with the daemon that it talks to.
pub struct Prosody {
    /// What was started: it has ended where the instance is in the background.
    pub process: Process,
    /// The daemon with its keys.
    pub daemon: Daemon,
    /// Where it listens.
    pub ports: Ports,
    background: Option<u32>,
    directory: TempDir,
}

/// Goes to other servers by a table: what SRV records would say.
const ROUTES: &str = r#"module:set_global()
local basic, service = require "net.resolvers.basic", require "net.resolvers.service"
local routes = module:get_option("test_routes")
local look_up = service.new
service.new = function(host, name, kind, extra)
    local port = routes[host]
    return port and basic.new("127.0.0.1", port, kind, extra) or look_up(host, name, kind, extra)
end
"#;

fn configuration(directory: &Path, setup: &Setup<'_>) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    let ports = setup.ports;
    let mut text = format!(
        r#"
run_as_root = true
pidfile = "{pid}"
data_path = "{data}"
certificates = "{certs}"
plugin_paths = {{ "{plugins}" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {client} }}
c2s_direct_tls_ports = {{ {direct} }}
s2s_ports = {{ {server} }}
s2s_secure_auth = true
http_ports = {{}}
https_ports = {{ {https} }}
modules_enabled = {{ "saslauth", "tls", "http", "bosh", "ping", "posix", "s2s_auth_certs", "test_routes" }}
modules_disabled = {{ "admin_shell", "admin_socket" }}
authentication = "internal_plain"
ssl = {{ cafile = "{ca}" }}
"#,
        pid = at("prosody.pid"),
        data = at("data"),
        certs = at("certs"),
        plugins = at("plugins"),
        ca = pki::file("ca/root.crt").display(),
        client = ports.client,
        direct = ports.direct,
        server = ports.server,
        https = ports.https,
    );
    let sink = if setup.daemonized {
        format!("to = \"file\", filename = \"{}\"", at("log"))
    } else {
        "to = \"console\"".to_owned()
    };
    let _ = writeln!(text, "log = {{ {{ levels = {{ min = \"debug\" }}, {sink} }} }}");
    let routes: String = setup.routes.iter().map(|(host, port)| format!("[\"{host}\"] = {port}, ")).collect();
    let _ = writeln!(text, "test_routes = {{ {routes} }}");
    for host in setup.hosts {
        let _ = writeln!(text, "VirtualHost \"{host}\"");
    }
    text
}

fn identities(directory: &Path, setup: &Setup<'_>) -> String {
    let (keys, certs) = (directory.join("keys"), directory.join("certs"));
    let (keys, certs) = (keys.display(), certs.display());
    let mut text = "[control]\nsocket = 'SOCKET'\n".to_owned();
    for host in setup.hosts {
        let _ = writeln!(text, "[identity.'{host}']\nkey = '{keys}/{host}.key'");
        let _ = writeln!(text, "aliases = ['{certs}/{host}.key']");
        if setup.chains {
            let _ = writeln!(text, "certificate = '{keys}/{host}.crt'");
        }
    }
    let names: String = setup.hosts.iter().map(|host| format!("'{host}', ")).collect();
    let _ = writeln!(text, "[[grant]]\nuser = UID\nidentities = [{names}]\nroles = ['server', 'client']");
    text
}

/// A new pair for `host`, of the development root.
#[must_use]
pub fn pair(host: &str) -> Pair {
    let leaf = Leaf { common_name: host, names: &[host], ..Leaf::default() };
    pki::issue(&leaf, Some(&pki::issuer("root")))
}

fn replace(path: &Path, contents: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, contents).expect("a file");
    fs::rename(new, path).expect("a rename");
}

/// As Prosody names files of its data: what is no letter or digit is escaped.
fn stored(host: &str) -> String {
    let escape = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() => letter.to_string(),
        letter => format!("%{:02x}", u32::from(letter)),
    };
    host.chars().map(escape).collect()
}

fn prepare(directory: &Path, setup: &Setup<'_>) {
    for name in ["certs", "keys", "plugins"] {
        fs::create_dir(directory.join(name)).expect("a directory");
    }
    fs::write(directory.join("plugins/mod_test_routes.lua"), ROUTES).expect("a file");
    for host in setup.hosts {
        let pair = pair(host);
        renew(directory, host, &pair);
        // What Prosody takes for its key.
        fs::write(directory.join(format!("certs/{host}.key")), "").expect("an empty file");
        fs::write(directory.join(format!("certs/{host}.crt")), pair.certificate_pem()).expect("a file");
        let accounts = directory.join("data").join(stored(host)).join("accounts");
        fs::create_dir_all(&accounts).expect("a directory");
        let account = format!("return {{ password = \"{PASSWORD}\" }}\n");
        fs::write(accounts.join("juliet.dat"), account).expect("a file");
    }
    fs::write(directory.join("prosody.cfg.lua"), configuration(directory, setup)).expect("a file");
}

fn renew(directory: &Path, host: &str, pair: &Pair) {
    replace(&directory.join(format!("keys/{host}.key")), &pair.key_pem());
    replace(&directory.join(format!("keys/{host}.crt")), &pair.certificate_pem());
}

/// A command of Prosody's in the environment of docs/prosody.md.
fn command(daemon: &Daemon, directory: &Path, program: &str) -> Command {
    let prosody = std::env::var("LUASSL_PROSODY").unwrap_or_else(|_| "prosody".to_owned());
    let mut command = Command::new(PathBuf::from(prosody).with_file_name(program));
    let with_paths = LUA54.luasec_command(daemon, &[]);
    for (name, value) in with_paths.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.arg("--config").arg(directory.join("prosody.cfg.lua"));
    command
}

impl Prosody {
    /// Starts one, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(setup: &Setup<'_>) -> Self {
        let directory = scratch();
        let path = directory.path();
        prepare(path, setup);
        let daemon = Daemon::with_config(&identities(path, setup));
        let mut command = command(&daemon, path, "prosody");
        let process = Process::start(command.arg(if setup.daemonized { "-D" } else { "-F" }));
        let mut prosody = Self { process, daemon, ports: setup.ports, background: None, directory };
        if setup.daemonized {
            prosody.process.finish();
            prosody.background = Some(prosody.pid_of_file());
        }
        until("Prosody to listen", || {
            assert!(setup.daemonized || prosody.process.runs(), "{}", prosody.log());
            prosody.ports.all().iter().all(|port| peer::tcp(*port).is_ok())
        });
        prosody
    }

    fn pid_of_file(&self) -> u32 {
        let mut pid = None;
        until("the pid file", || {
            let text = fs::read_to_string(self.directory.path().join("prosody.pid"));
            pid = text.ok().and_then(|text| text.trim().parse().ok());
            pid.is_some()
        });
        pid.unwrap_or_default()
    }

    /// The process that serves.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.background.unwrap_or_else(|| self.process.pid())
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> String {
        match self.background {
            Some(_) => fs::read_to_string(self.directory.path().join("log")).unwrap_or_default(),
            None => self.process.transcript(),
        }
    }

    /// Waits until the log says so.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect(&self, text: &str) {
        until(&format!("Prosody to say {text:?}"), || self.log().contains(text));
    }

    /// The real key of `host`, PEM, which only the keeper is to have.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn key(&self, host: &str) -> Vec<u8> {
        fs::read(self.directory.path().join(format!("keys/{host}.key"))).expect("the key")
    }

    /// New files for the identity of `host`.
    pub fn renew(&self, host: &str, pair: &Pair) {
        renew(self.directory.path(), host, pair);
    }

    /// A new certificate where Prosody itself reads it.
    pub fn renew_its_own(&self, host: &str, pair: &Pair) {
        replace(&self.directory.path().join(format!("certs/{host}.crt")), &pair.certificate_pem());
    }

    /// Runs prosodyctl.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn control(&self, arguments: &[&str]) -> Output {
        let mut command = command(&self.daemon, self.directory.path(), "prosodyctl");
        command.args(arguments).output().expect("prosodyctl")
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        if let Some(pid) = self.background {
            signal_pid(pid, Signal::KILL);
        }
    }
}
