//! One and the same program of LuaSec's, on LuaSec and over luassl in lock-step: how long an echo takes, and how fast
//! bulk goes, by the clock.

use crate::measure::Sample;
use luassl_tests::daemon::Daemon;
use luassl_tests::lua::LUA54;
use luassl_tests::peer;
use luassl_tests::process::Process;
use luassl_tests::repository;
use std::io::{Read, Write};
use std::time::Instant;

/// Echoes of one round.
const ECHOES: usize = 10_000;
/// Mebibytes of one round of bulk.
const MEBIBYTES: usize = 256;

/// A row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    work: &'static str,
    title: &'static str,
    unit: &'static str,
    measure: fn(u16) -> f64,
}

impl Row {
    /// Whether a word of the command line means it.
    pub(crate) fn is_named(&self, word: &str) -> bool {
        word.strip_prefix("lockstep")
            .is_some_and(|row| row.is_empty() || row.strip_prefix('-') == Some(self.work))
    }
}

pub(crate) const ROWS: [Row; 3] = [
    Row { work: "echo", title: "lock-step, 64-byte echo, p50", unit: "us", measure: echo },
    Row { work: "receive", title: "lock-step, received", unit: "MiB/s", measure: received },
    Row { work: "send", title: "lock-step, sent", unit: "MiB/s", measure: sent },
];

/// Prints luassl's values, LuaSec's, and the ratios.
pub(crate) fn compare(rounds: usize, rows: &[Row]) {
    println!("{rounds} alternating rounds, wall clock, server in Lua 5.4, median (least to most)\n");
    println!("{:<30} {:>30} {:>30} {:>20}", "", "luassl.luasec", "LuaSec", "ratio");
    for row in rows {
        let daemon = Daemon::start();
        let servers = [start(&daemon, true, row.work), start(&daemon, false, row.work)];
        let [mut ours, mut theirs, mut ratios] = [const { Sample::new() }; 3];
        for round in 0..=rounds {
            // Each goes first as often as the other.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            let mut found = [0.0; 2];
            for which in order {
                found[which] = (row.measure)(servers[which].1);
            }
            // The first round warms up caches and allocators.
            if round > 0 {
                ours.add(found[0]);
                theirs.add(found[1]);
                ratios.add(found[0] / found[1]);
            }
        }
        let (ours, theirs) = (ours.show(1, row.unit), theirs.show(1, row.unit));
        println!("{:<30} {ours:>30} {theirs:>30} {:>20}", row.title, ratios.show(2, ""));
    }
}

fn start(daemon: &Daemon, luassl: bool, work: &str) -> (Process, u16) {
    let mut command = if luassl { LUA54.luasec_command(daemon, &[]) } else { LUA54.plain_command(&[]) };
    command.arg(repository().join("bench/server_luasec.lua")).arg(work).arg(MEBIBYTES.to_string());
    let mut server = Process::start(&mut command);
    let line = server.line();
    let port = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line}\n{}", server.transcript()));
    (server, port)
}

fn echo(port: u16) -> f64 {
    let mut tls = peer::connect(port);
    let mut buffer = [b'x'; 64];
    let mut times = Vec::with_capacity(ECHOES);
    for _ in 0..ECHOES {
        let start = Instant::now();
        tls.write_all(&buffer).expect("a write");
        tls.read_exact(&mut buffer).expect("an echo");
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[ECHOES / 2].as_secs_f64() * 1e6
}

fn received(port: u16) -> f64 {
    let mut tls = peer::connect(port);
    let block = vec![b'x'; 128 * 1024];
    let start = Instant::now();
    for _ in 0..MEBIBYTES * 8 {
        tls.write_all(&block).expect("a write");
    }
    let _ = tls.shutdown();
    until_end(&mut tls);
    MEBIBYTES as f64 / start.elapsed().as_secs_f64()
}

fn sent(port: u16) -> f64 {
    let mut tls = peer::connect(port);
    let start = Instant::now();
    until_end(&mut tls);
    MEBIBYTES as f64 / start.elapsed().as_secs_f64()
}

fn until_end(tls: &mut impl Read) {
    let mut buffer = vec![0; 128 * 1024];
    while matches!(tls.read(&mut buffer), Ok(1..)) {}
}
