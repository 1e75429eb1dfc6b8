//! A server under measurement: a Lua program on luassl or on LuaSec, and the work that a client gives it.

use crate::measure;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{self, Tls};
use luassl_tests::process::Process;
use luassl_tests::repository;
use std::io::{Read, Write};
use std::time::Duration;

/// What the Lua program does TLS with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stack {
    Luassl,
    Luasec,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Receive,
    Send,
    Echo,
    Handshake,
    Hold,
}

/// Mebibytes of one round of bulk.
const MEBIBYTES: usize = 512;
/// Echoes of one round.
const ECHOES: usize = 50_000;
/// Handshakes of one round.
const HANDSHAKES: usize = 500;
/// Connections that are held for the measurement of memory.
const HELD: usize = 1_000;
/// After the last connection, so that buffers are given back.
const SETTLE: Duration = Duration::from_secs(2);

impl Work {
    pub(crate) const ALL: [Self; 5] = [Self::Receive, Self::Send, Self::Echo, Self::Handshake, Self::Hold];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.name() == name)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Receive => "GiB received",
            Self::Send => "GiB sent",
            Self::Echo => "1,000 echoes of 64 bytes",
            Self::Handshake => "1,000 full handshakes",
            Self::Hold => "idle connections",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        "s"
    }

    fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Send => "send",
            Self::Echo => "echo",
            Self::Handshake => "handshake",
            Self::Hold => "hold",
        }
    }

    /// How many units of the title one round has.
    fn units(self) -> f64 {
        match self {
            Self::Receive | Self::Send => MEBIBYTES as f64 / 1024.0,
            Self::Echo => ECHOES as f64 / 1000.0,
            Self::Handshake => HANDSHAKES as f64 / 1000.0,
            Self::Hold => 1.0,
        }
    }
}

/// What one idle connection takes, in KiB.
pub(crate) struct Memory {
    pub(crate) processes: f64,
    pub(crate) kernel: f64,
}

/// A running server.
pub(crate) struct Subject {
    work: Work,
    port: u16,
    pids: Vec<u32>,
    _server: Process,
    _daemon: Daemon,
}

impl Subject {
    /// LuaSec's gets a daemon as well, idle and not counted, so that both run beside the same processes.
    pub(crate) fn start(stack: Stack, work: Work) -> Self {
        let daemon = Daemon::start();
        let program = if stack == Stack::Luassl { "server_luassl.lua" } else { "server_luasec.lua" };
        let mut command = LUA54.command(&daemon);
        command.arg(repository().join("bench").join(program)).arg(work.name()).arg(MEBIBYTES.to_string());
        let mut server = Process::start(&mut command);
        let line = server.line();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line}\n{}", server.transcript()));
        let mut pids = vec![server.pid()];
        if stack == Stack::Luassl {
            pids.extend([daemon.pid(), daemon.front(), daemon.keeper()]);
        }
        Self { work, port, pids, _server: server, _daemon: daemon }
    }

    /// One round; CPU seconds for one unit.
    pub(crate) fn spend(&self) -> f64 {
        let before = measure::cpu(&self.pids);
        match self.work {
            Work::Receive => self.receive(),
            Work::Send => self.send(),
            Work::Echo => self.echo(),
            Work::Handshake => self.handshakes(),
            Work::Hold => {}
        }
        (measure::cpu(&self.pids) - before) / self.work.units()
    }

    fn receive(&self) {
        let mut tls = peer::connect(self.port);
        let block = vec![b'x'; 128 * 1024];
        for _ in 0..MEBIBYTES * 8 {
            tls.write_all(&block).expect("a write");
        }
        let _ = tls.shutdown();
        until_end(&mut tls);
    }

    fn send(&self) {
        let mut tls = peer::connect(self.port);
        until_end(&mut tls);
        let _ = tls.shutdown();
    }

    fn echo(&self) {
        let mut tls = peer::connect(self.port);
        let mut buffer = [b'x'; 64];
        for _ in 0..ECHOES {
            tls.write_all(&buffer).expect("a write");
            tls.read_exact(&mut buffer).expect("an echo");
        }
        let _ = tls.shutdown();
        until_end(&mut tls);
    }

    fn handshakes(&self) {
        let connector = peer::connector(|_| {});
        for _ in 0..HANDSHAKES {
            let mut tls = peer::connect_with(&connector, self.port);
            until_end(&mut tls);
            let _ = tls.shutdown();
        }
    }

    /// Opens many connections and leaves them alone.
    pub(crate) fn idle_memory(&self) -> Memory {
        drop(self.hold(20));
        std::thread::sleep(SETTLE);
        let before = (measure::pss(&self.pids), measure::kernel());
        let held = self.hold(HELD);
        std::thread::sleep(SETTLE);
        let count = held.len() as f64;
        Memory {
            processes: (measure::pss(&self.pids) - before.0) / count,
            kernel: (measure::kernel() - before.1) / count,
        }
    }

    fn hold(&self, count: usize) -> Vec<Tls> {
        let connector = peer::connector(|_| {});
        let open = || {
            let mut tls = peer::connect_with(&connector, self.port);
            tls.read_exact(&mut [0; 4]).expect("the server's word");
            tls
        };
        (0..count).map(|_| open()).collect()
    }
}

/// Reads until the other side has ended: what it had to do is done then.
fn until_end(tls: &mut Tls) {
    let mut buffer = vec![0; 128 * 1024];
    while matches!(tls.read(&mut buffer), Ok(1..)) {}
}
