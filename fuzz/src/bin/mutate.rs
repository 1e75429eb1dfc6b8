//! `mutate TARGET SECONDS [SEED]`: gives a target mutations of its corpus for that long, and says how many. An input that
//! breaks a promise is left in `fuzz/findings`.

use luassl_fuzz::mutate::Mutations;
use luassl_fuzz::target;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, seed @ ..] = &arguments[..] else { return usage() };
    let (Some(target), Ok(seconds)) = (target(name), seconds.parse()) else { return usage() };
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = seed.first().and_then(|seed| seed.parse().ok()).unwrap_or(drawn);
    let corpus = corpus(name);
    let end = Instant::now() + Duration::from_secs(seconds);
    println!("{name}: {} inputs, seed {seed}", corpus.len());
    let mut executions = 0_u64;
    for input in Mutations::new(&corpus, seed) {
        if executions.is_multiple_of(64) && Instant::now() >= end {
            break;
        }
        executions += 1;
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            let path = directory("findings").join(format!("{name}-{seed}-{executions}"));
            let kept =
                std::fs::create_dir_all(directory("findings")).and_then(|()| std::fs::write(&path, &input));
            println!("{name}: a finding: {} ({kept:?})", path.display());
            return ExitCode::FAILURE;
        }
    }
    println!("{name}: {executions} executions, no finding");
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("mutate TARGET SECONDS [SEED]; the targets are:");
    luassl_fuzz::TARGETS.iter().for_each(|target| eprintln!("  {}", target.name));
    ExitCode::from(2)
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(directory("corpus").join(name)).into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    // The order decides what a seed means.
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
