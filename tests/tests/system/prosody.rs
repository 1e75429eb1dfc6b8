//! Prosody of Debian, unmodified, over luassl: in place of its key lies an empty file.
//!
//! Needs Prosody 0.12, installed or, as `make deps` has it, unpacked: then `LUASSL_PROSODY` is the command for it.

mod needs_prosody {
    use luassl_tests::daemon::Daemon;
    use luassl_tests::lua::LUA54;
    use luassl_tests::pki::{self, Leaf, Pair};
    use luassl_tests::process::Process;
    use luassl_tests::{memory, needles, peer, scratch, until};
    use rustix::process::Signal;
    use std::net::{Ipv4Addr, TcpListener};
    use std::path::Path;
    use std::process::Command;
    use tempfile::TempDir;

    fn fresh() -> Pair {
        pki::issue(&Leaf::default(), Some(&pki::issuer("root")))
    }

    struct Ports {
        client: u16,
        direct: u16,
        server: u16,
        https: u16,
    }

    impl Ports {
        fn free() -> Self {
            let all = [(); 4].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
            let [client, direct, server, https] =
                all.map(|listener| listener.local_addr().expect("an address").port());
            Self { client, direct, server, https }
        }
    }

    /// A running Prosody, with the daemon that it talks to.
    struct Prosody {
        process: Process,
        daemon: Daemon,
        ports: Ports,
        directory: TempDir,
    }

    fn configuration(directory: &Path, ports: &Ports) -> String {
        let at = |name: &str| directory.join(name).display().to_string();
        format!(
            r#"
daemonize = false
run_as_root = true
pidfile = "{pid}"
data_path = "{data}"
certificates = "{certs}"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {client} }}
c2s_direct_tls_ports = {{ {direct} }}
s2s_ports = {{ {server} }}
http_ports = {{}}
https_ports = {{ {https} }}
modules_enabled = {{ "saslauth", "tls", "http", "bosh", "s2s_auth_certs" }}
modules_disabled = {{ "admin_shell", "admin_socket" }}
authentication = "internal_plain"
log = {{ {{ levels = {{ min = "debug" }}, to = "console" }} }}
ssl = {{ key = "{certs}/localhost.key", certificate = "{certs}/localhost.crt", cafile = "{ca}" }}
VirtualHost "localhost"
"#,
            pid = at("prosody.pid"),
            data = at("data"),
            certs = at("certs"),
            ca = pki::file("ca/root.crt").display(),
            client = ports.client,
            direct = ports.direct,
            server = ports.server,
            https = ports.https,
        )
    }

    impl Prosody {
        fn start() -> Self {
            let directory = scratch();
            let (path, ports) = (directory.path(), Ports::free());
            std::fs::create_dir(path.join("certs")).expect("a directory");
            std::fs::create_dir(path.join("data")).expect("a directory");
            std::fs::create_dir(path.join("keys")).expect("a directory");
            renew(path, &fresh());
            // What Prosody takes for its key.
            std::fs::write(path.join("certs/localhost.key"), "").expect("an empty file");
            std::fs::copy(path.join("keys/xmpp.crt"), path.join("certs/localhost.crt")).expect("a copy");
            std::fs::write(path.join("prosody.cfg.lua"), configuration(path, &ports)).expect("a file");
            let daemon = Daemon::with_config(&format!(
                "[control]\nsocket = 'SOCKET'\n[identity.xmpp]\nkey = '{keys}/xmpp.key'\n\
                 certificate = '{keys}/xmpp.crt'\naliases = ['{certs}/localhost.key']\n\
                 [[grant]]\nuser = UID\nidentities = ['xmpp']\nroles = ['server', 'client']\n",
                keys = path.join("keys").display(),
                certs = path.join("certs").display(),
            ));
            let process = launch(&daemon, path);
            let mut prosody = Self { process, daemon, ports, directory };
            let ports = &prosody.ports;
            let listening = [ports.client, ports.direct, ports.server, ports.https];
            until("Prosody to listen", || {
                assert!(prosody.process.runs(), "{}", prosody.process.transcript());
                listening.iter().all(|port| peer::tcp(*port).is_ok())
            });
            prosody
        }

        /// What a stream header is answered with over TLS, by `openssl s_client`.
        fn features(&self, port: u16, options: &[&str]) -> String {
            let mut client = peer::s_client(port, options);
            client.write(
                "<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' \
                 xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
            );
            client.expect("</stream:features>");
            client.output()
        }
    }

    /// The environment of docs/prosody.md.
    fn launch(daemon: &Daemon, directory: &Path) -> Process {
        let name = std::env::var("LUASSL_PROSODY").unwrap_or_else(|_| "prosody".to_owned());
        let with_paths = LUA54.luasec_command(daemon, &[]);
        let mut command = Command::new(name);
        for (name, value) in with_paths.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.arg("--config").arg(directory.join("prosody.cfg.lua")).arg("-F");
        Process::start(&mut command)
    }

    /// A new pair in the files of the identity.
    fn renew(directory: &Path, pair: &Pair) {
        for (name, contents) in [("xmpp.key", pair.key_pem()), ("xmpp.crt", pair.certificate_pem())] {
            let path = directory.join("keys").join(name);
            std::fs::write(path.with_extension("new"), contents).expect("a file");
            std::fs::rename(path.with_extension("new"), path).expect("a rename");
        }
    }

    fn serial(port: u16) -> String {
        let tls = peer::connect(port);
        let certificate = tls.ssl().peer_certificate().expect("a certificate");
        let number = certificate.serial_number().to_bn().and_then(|number| number.to_hex_str());
        number.expect("a number").to_string()
    }

    #[test]
    fn clients_reach_it_by_starttls_direct_tls_and_https() {
        let prosody = Prosody::start();
        for version in ["-tls1_2", "-tls1_3"] {
            let options = ["-starttls", "xmpp", "-xmpphost", "localhost", version];
            let said = prosody.features(prosody.ports.client, &options);
            assert!(said.contains("SCRAM-SHA-1"), "{said}");
            // The Finished messages of TLS 1.2 bind the channel (tls-unique).
            assert_eq!(said.contains("SCRAM-SHA-1-PLUS"), version == "-tls1_2", "{said}");
        }
        let direct = ["-servername", "localhost", "-alpn", "xmpp-client"];
        prosody.features(prosody.ports.direct, &direct);
        let page = Command::new("curl")
            .args(["-sS", "--cacert"])
            .arg(pki::file("ca/root.crt"))
            .arg(format!("https://localhost:{}/http-bind", prosody.ports.https))
            .output()
            .expect("curl");
        assert!(String::from_utf8_lossy(&page.stdout).contains("BOSH"), "{page:?}");
    }

    #[test]
    fn a_server_shows_its_certificate_and_may_authenticate_by_it() {
        let prosody = Prosody::start();
        let pair = pki::issue(
            &Leaf { common_name: "other.example", names: &["other.example"], ..Leaf::default() },
            Some(&pki::issuer("root")),
        );
        let file = prosody.directory.path().join("other.pem");
        std::fs::write(&file, pair.pem()).expect("a file");
        let file = file.display().to_string();
        let options = ["-starttls", "xmpp-server", "-xmpphost", "localhost", "-cert", &file, "-key", &file];
        let mut client = peer::s_client(prosody.ports.server, &options);
        client.write(
            "<?xml version='1.0'?><stream:stream to='localhost' from='other.example' xmlns='jabber:server' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
        );
        client.expect("<mechanism>EXTERNAL</mechanism>");
    }

    #[test]
    fn the_key_is_not_in_its_memory() {
        let prosody = Prosody::start();
        drop(peer::connect(prosody.ports.https));
        let key = std::fs::read(prosody.directory.path().join("keys/xmpp.key")).expect("the key");
        let scan = memory::scan(prosody.process.pid(), &needles::of_pem(&key).expect("a key"));
        assert_eq!(scan.expect("its memory").total(), 0);
    }

    #[test]
    fn a_renewed_certificate_is_served_without_a_reload_of_it() {
        let prosody = Prosody::start();
        let before = serial(prosody.ports.https);
        renew(prosody.directory.path(), &fresh());
        prosody.daemon.signal(Signal::HUP);
        until("the renewed certificate", || serial(prosody.ports.https) != before);
    }

    #[test]
    fn a_reload_of_it_makes_its_contexts_again() {
        let prosody = Prosody::start();
        // A page is served by its loop, and so once it minds signals.
        drop(peer::connect(prosody.ports.https));
        prosody.process.signal(Signal::HUP);
        prosody.process.expect("Received SIGHUP");
        prosody.features(prosody.ports.direct, &["-servername", "localhost"]);
    }
}
