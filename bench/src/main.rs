//! `luassl-bench [ROUNDS]`: luassl beside Debian's LuaSec, the same work in one run, in alternating rounds.
//!
//! What counts is the CPU time of all processes on the server's side: for luassl the Lua process, the front, the
//! keeper and the supervisor. The client is this process. Nothing here passes or fails.

mod measure;
mod subject;

use measure::{Sample, median};
use std::io::Write;
use std::process::ExitCode;
use subject::{Stack, Subject, Work};

/// Rounds of each stack, where the command line names no number.
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |text| text.parse());
    let Ok(rounds @ 1..) = rounds else {
        eprintln!("usage: luassl-bench [ROUNDS]");
        return ExitCode::from(2);
    };
    println!("{rounds} alternating rounds; server-side CPU of all processes, median (least to most)\n");
    println!("{:<26} {:>28} {:>28} {:>7}", "", "luassl", "LuaSec", "ratio");
    for work in [Work::Receive, Work::Send, Work::Echo, Work::Handshake] {
        compare(work, rounds);
    }
    println!();
    compare_memory();
    ExitCode::SUCCESS
}

fn compare(work: Work, rounds: usize) {
    let subjects = [Subject::start(Stack::Luassl, work), Subject::start(Stack::Luasec, work)];
    let mut samples = [Sample::default(), Sample::default()];
    for round in 0..=rounds {
        for (subject, sample) in subjects.iter().zip(&mut samples) {
            let spent = subject.spend();
            // The first round warms up caches and allocators.
            if round > 0 {
                sample.add(spent);
            }
        }
    }
    let [ours, theirs] = &samples;
    let ratio = median(&ours.values) / median(&theirs.values);
    println!(
        "{:<26} {:>28} {:>28} {ratio:>7.2}",
        work.title(),
        ours.show(work.unit()),
        theirs.show(work.unit())
    );
    let _ = std::io::stdout().flush();
}

fn compare_memory() {
    println!("{:<26} {:>28} {:>28} {:>7}", "an idle connection, KiB", "luassl", "LuaSec", "ratio");
    let memory = [Stack::Luassl, Stack::Luasec].map(|stack| Subject::start(stack, Work::Hold).idle_memory());
    let [ours, theirs] = memory;
    for (title, ours, theirs) in [
        ("processes (PSS)", ours.processes, theirs.processes),
        ("kernel, both ends of TCP", ours.kernel, theirs.kernel),
        ("together", ours.processes + ours.kernel, theirs.processes + theirs.kernel),
    ] {
        println!("{title:<26} {ours:>28.1} {theirs:>28.1} {:>7.2}", ours / theirs);
    }
}
