//! nginx of Debian: a TLS server that is nobody's of ours, with a configuration of the test's own.
//!
//! Needs nginx, installed or, as `make deps` has it, unpacked: then `LUASSL_NGINX` is the command for it.

use crate::process::Process;
use crate::{peer, pki, scratch, until};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use tempfile::TempDir;

/// A running nginx, which ends with the value.
pub struct Nginx {
    process: Process,
    /// Its ports, in the order in which the servers name them.
    pub ports: Vec<u16>,
    _directory: TempDir,
}

fn free_ports(count: usize) -> Vec<u16> {
    let bound: Vec<_> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")).collect();
    bound.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

fn configuration(servers: &str) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
         events {{}}\n\
         http {{\n\
         access_log off; client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;\n\
         uwsgi_temp_path temp; scgi_temp_path temp; default_type text/plain;\n{servers}\n}}\n"
    )
}

impl Nginx {
    /// With what `servers` says in its `http` block: `PKI` in it stands for the development PKI, `PORT0`, `PORT1` and
    /// so on for ports.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(servers: &str) -> Self {
        let directory = scratch();
        let mut servers = servers.replace("PKI", pki::file("").to_str().expect("a path"));
        let count = (0..).take_while(|number| servers.contains(&format!("PORT{number}"))).count();
        let ports = free_ports(count);
        for (number, port) in ports.iter().enumerate() {
            servers = servers.replace(&format!("PORT{number}"), &port.to_string());
        }
        std::fs::write(directory.path().join("nginx.conf"), configuration(&servers)).expect("a file");
        let name = std::env::var("LUASSL_NGINX").unwrap_or_else(|_| "/usr/sbin/nginx".to_owned());
        let mut command = Command::new(name);
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(directory.path());
        let process = Process::start(&mut command);
        let mut nginx = Self { process, ports, _directory: directory };
        until("nginx to listen", || {
            assert!(nginx.process.runs(), "{}", nginx.process.transcript());
            nginx.ports.iter().all(|port| peer::tcp(*port).is_ok())
        });
        nginx
    }

    /// What it has said.
    #[must_use]
    pub fn transcript(&self) -> String {
        self.process.transcript()
    }
}
