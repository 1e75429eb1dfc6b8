//! `luassld`: the supervisor and the front.

use clap::Parser;
use luassl_daemon::cli::{Luassld, LuassldCommand};
use luassl_daemon::config::Finding;
use luassl_daemon::supervisor::{self, Programs, launch};
use std::process::ExitCode;

/// What a command gives back that could not do what it should.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    // Before anything else: a child closes what it was not meant to inherit.
    let arguments = Luassld::parse();
    let outcome = match arguments.command {
        LuassldCommand::Launch => Err(vec![Finding::error(None, launch::launch().to_string())]),
        LuassldCommand::Run(args) => Programs::installed()
            .map_err(|finding| vec![finding])
            .and_then(|programs| supervisor::run(&args.into(), programs)),
        LuassldCommand::Check(_) | LuassldCommand::Front(_) => unreachable!(),
    };
    let findings = outcome.err().unwrap_or_default();
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}
