//! Each target takes its corpus, and what some thousand mutations make of it, without a finding. What `cargo-fuzz` does
//! for longer and with more cunning.
#![allow(clippy::unwrap_used)]

use luassl_fuzz::mutate::Mutations;
use luassl_fuzz::{TARGETS, Target, target};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mutations of one target, at most.
const MUTATIONS: usize = 20_000;
/// A slow machine, or a slow target, has fewer of them.
const TIME: Duration = Duration::from_secs(2);

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn corpus(target: Target) -> Vec<Vec<u8>> {
    let directory = here("corpus").join(target.name);
    names_in(&directory).iter().map(|name| std::fs::read(directory.join(name)).unwrap()).collect()
}

fn check(name: &str) {
    let target = target(name).unwrap();
    let corpus = corpus(target);
    assert!(corpus.len() >= 2, "{name}: {} inputs", corpus.len());
    corpus.iter().for_each(|input| (target.run)(input));
    let end = Instant::now() + TIME;
    for (number, input) in Mutations::new(&corpus, 1).take(MUTATIONS).enumerate() {
        if number % 64 == 0 && Instant::now() >= end {
            break;
        }
        let run = std::panic::AssertUnwindSafe(|| (target.run)(&input));
        assert!(std::panic::catch_unwind(run).is_ok(), "{name}: {:?}", String::from_utf8_lossy(&input));
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_target_is_tested_has_a_corpus_and_a_program() {
            let tested: BTreeSet<String> = [$(stringify!($name).to_owned()),*].into();
            let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
            assert_eq!(tested, targets);
            assert_eq!(names_in(&here("corpus")), targets);
            let programs = names_in(&here("libfuzzer/src"));
            assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect());
            let manifest = std::fs::read_to_string(here("libfuzzer/Cargo.toml")).unwrap();
            for name in targets {
                assert!(manifest.contains(&format!("path = \"src/{name}.rs\"")), "{name}");
                let program = std::fs::read_to_string(here(&format!("libfuzzer/src/{name}.rs"))).unwrap();
                assert!(program.contains(&format!("run(\"{name}\", bytes)")), "{name}");
                let page = std::fs::read_to_string(here("../docs/fuzzing.md")).unwrap();
                let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` | ")) && line.matches('|').count() == 5);
                assert!(row.is_some(), "docs/fuzzing.md has no run of {name}");
            }
        }
    };
}

targets! {
    control answers lock_step material keeper_messages handshake_message identity_files trust_files configuration
    settings status client_hello server_hello peer_certificates
}
