//! The samples that come with LuaSec, each by LuaSec and by luassl: they say the same and end the same, but for the
//! differences that are named here. `LUASSL_LUASEC_SAMPLES` names a checkout of LuaSec 1.3.2.

mod needs_luasec_samples {
    use luassl_tests::daemon::Daemon;
    use luassl_tests::lua::LUA54;
    use luassl_tests::process::Process;
    use luassl_tests::{copy_file, repository, scratch};
    use rustix::process::Signal;
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::fs;
    use std::net::{Ipv4Addr, TcpListener};
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::LazyLock;
    use std::time::Duration;
    use tempfile::TempDir;

    /// The longest sample sleeps for twelve seconds.
    const PATIENCE: Duration = Duration::from_secs(40);

    /// The samples, with certificates, in a directory of the tests' own.
    static SAMPLES: LazyLock<TempDir> = LazyLock::new(|| {
        let checkout = std::env::var("LUASSL_LUASEC_SAMPLES").expect("it names a checkout of LuaSec");
        let directory = scratch();
        copy_tree(&Path::new(&checkout).join("samples"), directory.path());
        for (place, script) in [
            ("certs", "./all.sh"),
            ("multicert", "./gencerts.sh"),
            ("key", "./genkey.sh"),
            // Theirs makes groups that OpenSSL 3 does not take; the sample asks for the one of 1024 bits.
            ("dhparam", "openssl dhparam -dsaparam -out dh-1024.pem 1024"),
        ] {
            let made =
                Command::new("sh").args(["-c", script]).current_dir(directory.path().join(place)).output();
            let made = made.expect("a shell");
            assert!(made.status.success(), "{script}: {}", String::from_utf8_lossy(&made.stderr));
        }
        with_tls_1_2(directory.path());
        directory
    });

    /// Copies of those that are written for TLS 1.0, for TLS 1.2.
    fn with_tls_1_2(samples: &Path) {
        for name in ["verification/fail-string", "verification/fail-table", "verification/success", "key"] {
            let target = samples.join("tlsv1_2").join(name);
            copy_tree(&samples.join(name), &target);
            for file in fs::read_dir(target).expect("a directory").flatten().map(|entry| entry.path()) {
                if file.extension().is_some_and(|end| end == "lua") {
                    let text = fs::read_to_string(&file).expect("a sample");
                    fs::write(&file, text.replace("\"tlsv1\"", "\"tlsv1_2\"")).expect("a sample");
                }
            }
        }
        copy_tree(&samples.join("certs"), &samples.join("tlsv1_2/certs"));
    }

    fn copy_tree(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a directory");
        for entry in fs::read_dir(from).expect("the checkout").flatten() {
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy_tree(&entry.path(), &target);
            } else {
                copy_file(entry.path(), target);
            }
        }
    }

    fn keys(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("the samples").flatten() {
            let path = entry.path();
            if path.is_dir() {
                keys(&path, found);
            } else if path.to_string_lossy().ends_with("key.pem") {
                found.push(path);
            }
        }
    }

    /// Every key of the samples is an identity, by the path of its file.
    fn daemon() -> Daemon {
        let mut found = Vec::new();
        keys(SAMPLES.path(), &mut found);
        assert!(found.len() >= 10, "{found:?}");
        let password = SAMPLES.path().join("password");
        fs::write(&password, "foobar\n").expect("a file");
        let mut config = "[control]\nsocket = 'SOCKET'\n".to_owned();
        for (number, key) in found.iter().enumerate() {
            // The copies for TLS 1.2 have the keys of the samples.
            let _ = writeln!(config, "[identity.key-{number}]\nkey = '{}'\nshared_key = true", key.display());
            if key.file_name().is_some_and(|name| name == "key.pem") {
                let _ = writeln!(config, "password_file = '{}'", password.display());
            }
        }
        let names: String = (0..found.len()).map(|number| format!("'key-{number}', ")).collect();
        let _ =
            writeln!(config, "[[grant]]\nuser = UID\nidentities = [{names}]\nroles = ['server', 'client']");
        Daemon::with_config(&config)
    }

    /// What a sample said, and how it ended.
    #[derive(Debug, PartialEq, Eq)]
    struct Ending {
        good: bool,
        lines: BTreeSet<String>,
        errors: String,
    }

    /// A line of a sample's, without addresses of objects.
    fn without_address(line: &str) -> String {
        line.split("0x").next().unwrap_or_default().trim_end().to_owned()
    }

    /// The messages of the Lua interpreter, without traces.
    fn message(errors: &str) -> String {
        let lines = errors.lines().filter(|line| line.starts_with("lua5.4:"));
        lines.map(|line| line.rsplit(".lua:").next().unwrap_or_default().to_owned()).collect()
    }

    fn ending(mut process: Process) -> Ending {
        let good = process.wait_within(PATIENCE).success();
        said(&process, good)
    }

    fn said(process: &Process, good: bool) -> Ending {
        let lines = process.output().lines().map(without_address).collect();
        Ending { good, lines, errors: message(&process.errors()) }
    }

    fn command(daemon: Option<&Daemon>, port: u16, sample: &str) -> Command {
        let suite = repository().join("tests/luasec");
        let mut command = match daemon {
            Some(daemon) => LUA54.luasec_command(daemon, &[&suite]),
            None => LUA54.plain_command(&[&suite]),
        };
        let path = SAMPLES.path().join(sample);
        command.current_dir(path.parent().expect("a directory")).env("SAMPLE_PORT", port.to_string());
        command.args(["-l", "sample"]).arg(path.file_name().expect("a name"));
        command
    }

    fn free_port() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.local_addr().expect("an address").port()
    }

    /// A server and a client, at their ends: the server's first.
    fn pair(daemon: Option<&Daemon>, directory: &str, client: &str) -> [Ending; 2] {
        let port = free_port();
        let mut server = Process::start(&mut command(daemon, port, &format!("{directory}/server.lua")));
        until_it_listens(&mut server);
        let client = Process::start(&mut command(daemon, port, &format!("{directory}/{client}.lua")));
        let client = ending(client);
        [ending(server), client]
    }

    /// Or has ended.
    fn until_it_listens(server: &mut Process) {
        luassl_tests::until("the sample to listen", || {
            !server.runs() || server.errors().contains("listening")
        });
    }

    /// What luassl's `info()` has beside LuaSec's.
    fn without_superset(mut ending: Ending) -> Ending {
        ending.lines.retain(|line| !line.starts_with("group\t") && !line.starts_with("reused\t"));
        ending
    }

    /// Both say the same by luassl as by LuaSec, and end well or not.
    fn same(directory: &str, client: &str, good: bool) {
        let by_luasec = pair(None, directory, client);
        let by_luassl = pair(Some(&daemon()), directory, client).map(without_superset);
        assert!(by_luasec.iter().all(|end| end.good == good), "{by_luasec:#?}");
        assert_eq!(by_luassl, by_luasec, "by luassl, and by LuaSec");
    }

    macro_rules! the_same {
        ($($name:ident $directory:literal $client:literal $good:literal),* $(,)?) => {$(
            #[test]
            fn $name() {
                same($directory, $client, $good);
            }
        )*};
    }

    the_same! {
        alpn "alpn" "client" true,
        digest "digest" "client" true,
        ecdh "ecdh" "client" true,
        info "info" "client" true,
        multicert_ecdsa "multicert" "client-ecdsa" true,
        multicert_rsa "multicert" "client-rsa" true,
        oneshot "oneshot" "client" true,
        // It asks for a name that its map does not have.
        sni "sni" "client" false,
        verification_fail_string "tlsv1_2/verification/fail-string" "client" true,
        verification_fail_table "tlsv1_2/verification/fail-table" "client" true,
        verification_success "tlsv1_2/verification/success" "client" true,
        verify "verify" "client" true,
        want "want" "client" true,
        wantread "wantread" "client" true,
    }

    /// LuaSec's OpenSSL has no TLS 1.0 to speak either, and finds that out in the handshake; luassl at once.
    #[test]
    fn samples_of_tls_1_0_work_with_neither() {
        for directory in ["verification/fail-string", "verification/fail-table", "verification/success"] {
            for end in pair(None, directory, "client") {
                assert!(!end.good, "{end:?}");
            }
            for end in pair(Some(&daemon()), directory, "client") {
                assert!(!end.good && end.errors.contains("invalid protocol (tlsv1)"), "{end:?}");
            }
        }
    }

    /// The sample gives a list for `curve`, which takes one: the words are another version's.
    #[test]
    fn curve_negotiation() {
        for end in pair(None, "curve-negotiation", "client") {
            assert!(!end.good && end.errors.contains("elliptic curve"), "{end:?}");
        }
        for end in pair(Some(&daemon()), "curve-negotiation", "client") {
            assert!(!end.good && end.errors.contains("elliptic curve"), "{end:?}");
        }
    }

    /// luassl calls the function for DH parameters when the context is made, LuaSec only in a handshake that needs them.
    #[test]
    fn dhparam() {
        let by_luasec = pair(None, "dhparam", "client");
        let [server, client] = pair(Some(&daemon()), "dhparam", "client");
        assert_eq!(client, by_luasec[1]);
        assert!(client.good && server.good && by_luasec[0].good, "{server:?}");
        let called = ["---", "DH Callback", "Export\tfalse", "Key length\t1024"];
        assert_eq!(server.lines, called.map(str::to_owned).into());
    }

    /// The server expects a local chain without the root that its file has, and ends there, with LuaSec 1.3.2 as well;
    /// with one that has no `getlocalchain` (1.2) some words earlier.
    #[test]
    fn chain() {
        let [mut server, client] = pair(None, "chain", "client");
        let by_luassl = pair(Some(&daemon()), "chain", "client");
        assert!(
            ["46: ", "47: assertion failed!"].iter().any(|line| server.errors.starts_with(line)),
            "{server:#?}"
        );
        assert!(by_luassl[0].lines.contains("commonName = Client A"), "{by_luassl:#?}");
        server.errors = "47: assertion failed!".to_owned();
        assert_eq!(by_luassl, [server, client]);
    }

    /// Debian's LuaSec has no psk, which its samples say; what they print here is what LuaSec 1.3.2 prints.
    #[test]
    fn psk() {
        let [server, client] = pair(Some(&daemon()), "psk", "client");
        assert!(server.good && client.good, "{server:?} {client:?}");
        assert!(server.lines.contains("PSK Callback: identity=\"abcd\", max_psk_len=512"), "{server:?}");
        let asked = "PSK Callback: hint=nil, max_identity_len=255, max_psk_len=512";
        assert!(client.lines.contains(asked), "{client:?}");
    }

    /// LuaSec takes luaossl's contexts, and crashes.
    #[test]
    fn luaossl() {
        let by_luassl = pair(Some(&daemon()), "luaossl", "client");
        for end in by_luassl {
            assert!(!end.good && end.errors.contains("contexts of luaossl are not supported"), "{end:?}");
        }
    }

    /// Server and client go round and round, and have few descriptors at any time.
    fn loops(daemon: Option<&Daemon>, directory: &str, rounds: usize) {
        let port = free_port();
        let mut server = Process::start(&mut command(daemon, port, &format!("{directory}/server.lua")));
        until_it_listens(&mut server);
        let mut client = Process::start(&mut command(daemon, port, &format!("{directory}/client.lua")));
        for _ in 0..rounds {
            assert_eq!(
                client.line(),
                "loop test\tnil\tnil",
                "{}{}",
                client.transcript(),
                server.transcript()
            );
        }
        for process in [&server, &client] {
            let open = fs::read_dir(format!("/proc/{}/fd", process.pid())).map_or(0, Iterator::count);
            assert!((1..100).contains(&open), "{open} descriptors in {directory}");
        }
    }

    #[test]
    fn loop_with_close_and_by_collection() {
        let daemon = daemon();
        // The second is slow by its nature: small packets wait for acknowledgements.
        for (directory, rounds) in [("loop", 600), ("loop-gc", 120)] {
            loops(None, directory, rounds);
            loops(Some(&daemon), directory, rounds);
        }
    }

    /// A server that does not go on: the client waits until it does.
    fn waits_to_write(daemon: Option<&Daemon>) {
        let port = free_port();
        let mut server = Process::start(&mut command(daemon, port, "wantwrite/server.lua"));
        until_it_listens(&mut server);
        let client = Process::start(&mut command(daemon, port, "wantwrite/client.lua"));
        server.expect("a rose is a rose is a rose is a...");
        server.signal(Signal::STOP);
        client.expect("Waiting...\twantwrite");
        let before = client.output().matches("Sending...").count();
        server.signal(Signal::CONT);
        luassl_tests::until("the client to send again", || {
            client.output().matches("Sending...").count() > before
        });
    }

    #[test]
    fn wantwrite() {
        waits_to_write(None);
        waits_to_write(Some(&daemon()));
    }

    /// What the sample of an encrypted key says, where it asks on its input.
    fn load_key(daemon: Option<&Daemon>, sample: &str) -> Ending {
        let plain = command(daemon, 1, sample);
        // Without a terminal, on which OpenSSL would ask for the password.
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(plain.get_program()).args(plain.get_args());
        command.current_dir(plain.get_current_dir().expect("a directory"));
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let mut process = Process::start(&mut command);
        if daemon.is_none() {
            process.write("foobar\n");
        }
        ending(process)
    }

    /// luassl never asks for a password: the configuration has it.
    #[test]
    fn key() {
        let daemon = daemon();
        let by_luasec = load_key(None, "tlsv1_2/key/loadkey.lua");
        assert!(by_luasec.good && by_luasec.lines.contains("Callback: ok"), "{by_luasec:?}");
        assert_eq!(load_key(Some(&daemon), "tlsv1_2/key/loadkey.lua"), by_luasec);
        let refused = load_key(Some(&daemon), "key/loadkey.lua");
        assert!(refused.errors.contains("invalid protocol (tlsv1)"), "{refused:?}");
    }
}
