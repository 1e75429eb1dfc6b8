//! `luassl-bench [ROUNDS] [WORK]...`: luassl beside Debian's LuaSec, the same work in one run, in alternating rounds.
//! WORK is `receive`, `send`, `echo`, `handshake`, `hold`, `keeper` or `lockstep` (or one row of the last: `lockstep-echo`,
//! `lockstep-receive`, `lockstep-send`); all of them where none is named.
//!
//! What counts is the CPU time of all processes on the server's side: for luassl the Lua process, the front, the
//! keeper and the supervisor. The client is this process. The ratio is taken round by round, so that what disturbs
//! both stacks alike leaves it as it is. Nothing here passes or fails.

mod keeper;
mod lockstep;
mod measure;
mod subject;

use lockstep::Row;
use measure::Sample;
use std::io::Write;
use std::process::ExitCode;
use subject::{Stack, Subject, Work};

/// Rounds of each stack, where the command line names no number.
const ROUNDS: usize = 7;

fn main() -> ExitCode {
    let Some((rounds, works, keeper, rows)) = arguments() else {
        eprintln!("usage: luassl-bench [ROUNDS] [receive|send|echo|handshake|hold|keeper|lockstep[-ROW]]...");
        return ExitCode::from(2);
    };
    if works.iter().any(|work| *work != Work::Hold) {
        println!("{rounds} alternating rounds; server-side CPU of all processes, median (least to most)\n");
        println!("{:<26} {:>28} {:>28} {:>24}", "", "luassl", "LuaSec", "ratio");
    }
    for work in works.iter().copied().filter(|work| *work != Work::Hold) {
        compare(work, rounds);
    }
    if works.contains(&Work::Hold) {
        println!();
        compare_memory();
    }
    if keeper {
        println!();
        keeper::compare(rounds);
    }
    if !rows.is_empty() {
        println!();
        lockstep::compare(rounds, &rows);
    }
    ExitCode::SUCCESS
}

/// Rounds, works, whether the keeper is among them, and rows of lock-step; none where the command line cannot be understood.
fn arguments() -> Option<(usize, Vec<Work>, bool, Vec<Row>)> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut rounds = ROUNDS;
    if let Some(number) = words.first().and_then(|word| word.parse().ok()) {
        rounds = number;
        words.remove(0);
    }
    let all = words.is_empty();
    let keeper = all || words.iter().any(|word| word == "keeper");
    let rows = lockstep::ROWS.into_iter().filter(|row| all || words.iter().any(|word| row.is_named(word)));
    let rows = rows.collect();
    words.retain(|word| word != "keeper" && !lockstep::ROWS.iter().any(|row| row.is_named(word)));
    let works = words.iter().map(|word| Work::named(word)).collect::<Option<Vec<_>>>()?;
    (rounds > 0).then(|| (rounds, if all { Work::ALL.to_vec() } else { works }, keeper, rows))
}

fn compare(work: Work, rounds: usize) {
    let subjects = [Subject::start(Stack::Luassl, work), Subject::start(Stack::Luasec, work)];
    let [mut ours, mut theirs, mut ratios] = [const { Sample::new() }; 3];
    // The first round warms up caches and allocators.
    for round in 0..=rounds {
        // Each goes first as often as the other.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut spent = [0.0; 2];
        for which in order {
            spent[which] = subjects[which].spend();
        }
        if round > 0 {
            ours.add(spent[0]);
            theirs.add(spent[1]);
            ratios.add(spent[0] / spent[1]);
        }
    }
    println!(
        "{:<26} {:>28} {:>28} {:>24}",
        work.title(),
        ours.show(3, work.unit()),
        theirs.show(3, work.unit()),
        ratios.show(2, "")
    );
    let _ = std::io::stdout().flush();
}

fn compare_memory() {
    println!("{:<26} {:>28} {:>28} {:>24}", "an idle connection, KiB", "luassl", "LuaSec", "ratio");
    let memory = [Stack::Luassl, Stack::Luasec].map(|stack| Subject::start(stack, Work::Hold).idle_memory());
    let [ours, theirs] = memory;
    for (title, ours, theirs) in [
        ("processes (PSS)", ours.processes, theirs.processes),
        ("kernel, both ends of TCP", ours.kernel, theirs.kernel),
        ("together", ours.processes + ours.kernel, theirs.processes + theirs.kernel),
    ] {
        println!("{title:<26} {ours:>28.1} {theirs:>28.1} {:>24.2}", ours / theirs);
    }
}
