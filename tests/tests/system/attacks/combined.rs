//! Finding 3: files with key and certificate in one, as identity, as trust, in the system's directory and named by the
//! program: the key is in no process but the keeper.

use crate::api::serve;
use luassl_tests::agent::Agent;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::needles;
use luassl_tests::pki::{self, Leaf, Pair};
use luassl_tests::{memory, peer, scratch};
use std::path::Path;

mod needs_root {
    use super::*;

    /// How often the key is found in the memory of process `pid`.
    fn hits(pid: u32, pair: &Pair) -> usize {
        let needles = needles::of_pem(&pair.pem()).expect("a key");
        memory::scan(pid, &needles).expect("root reads its memory").total()
    }

    const CONFIG: &str = "[control]\nsocket = 'SOCKET'\n[identity.site]\nkey = 'DIR/both.pem'\n\
                          [trust.own]\nfile = 'DIR/both.pem'\n[trust.hashed]\ndirectory = 'DIR/hashed'\n\
                          [[grant]]\nuser = UID\nidentities = ['site']\n";

    /// A daemon that meets the combined file wherever there can be one.
    fn daemon(pair: &Pair) -> Daemon {
        let scratch = scratch();
        let at = |name: &str| scratch.path().join(name);
        for directory in ["hashed", "system"] {
            std::fs::create_dir(at(directory)).expect("a directory");
            std::fs::write(at(directory).join("0a1b2c3d.0"), pair.pem()).expect("a file");
        }
        let root = std::fs::read(pki::file("keys/rootcert.pem")).expect("the root's certificate");
        std::fs::write(at("system/0a1b2c3e.0"), root).expect("a file");
        std::fs::write(at("both.pem"), pair.pem()).expect("a file");
        let system = at("system");
        Daemon::with_system_certificates(CONFIG, scratch, &system)
    }

    #[test]
    fn finding_3_the_key_of_a_combined_file_is_in_no_process_but_the_keeper() {
        let pair = pki::issue(&Leaf::default(), Some(&pki::issuer("root")));
        let daemon = daemon(&pair);
        let file = daemon.directory().join("both.pem");
        for said in
            ["trust `own`: ", "trust `hashed`: ", "0a1b2c3d.0 contains a private key; the file is skipped"]
        {
            daemon.expect_log(said);
        }
        let mut agent = Agent::start(&daemon, LUA54);
        let port = serve(&mut agent, &format!("ssl.wrap{{key = 'site', cafile = '{}'}}", file.display()));
        agent.send("c = assert(s:accept()) c:clear()");
        drop(peer::connect(port));
        agent.answer();
        let processes = [("Lua", agent.pid()), ("front", daemon.front()), ("supervisor", daemon.pid())];
        for (what, pid) in processes {
            assert_eq!(hits(pid, &pair), 0, "the key is in the memory of {what}");
        }
        assert!(reads_it_all(&daemon, &file, &pair) > 0, "the search finds nothing anywhere");
    }

    /// Positive control: a process that keeps the file as it is.
    fn reads_it_all(daemon: &Daemon, file: &Path, pair: &Pair) -> usize {
        let mut agent = Agent::start(daemon, LUA54);
        agent.run(&format!("kept = io.open('{}'):read('a')", file.display()));
        hits(agent.pid(), pair)
    }

    /// Positive control: the same places, with certificates alone, are taken.
    #[test]
    fn finding_3_certificates_in_the_same_places_are_trusted() {
        let pair = pki::issue(&Leaf::default(), Some(&pki::issuer("root")));
        let daemon = daemon(&pair);
        let mut agent = Agent::start(&daemon, LUA54);
        let server = peer::Server::start("server", |_| {});
        agent.run("c = assert(ssl.wrap{})");
        agent.send(&format!("return c:connect('localhost', {})", server.port()));
        let _peer = server.accept();
        let answer = agent.answer();
        assert_eq!(answer, "true", "the root in the system's directory is trusted");
    }
}
