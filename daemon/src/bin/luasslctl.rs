//! `luasslctl`: the supervisor's part under systemd.

use clap::Parser;
use luassl_daemon::cli::{Luasslctl, LuasslctlCommand};
use luassl_supervisor::ctl;
use std::process::ExitCode;

/// What a command gives back that could not hand over everything.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Luasslctl::parse().command {
        LuasslctlCommand::Push(args) => ctl::push(args),
        LuasslctlCommand::Reload(args) => ctl::reload(args),
        LuasslctlCommand::Status(args) => {
            let (tables, findings) = ctl::status(args);
            print!("{tables}");
            if findings.is_empty() { Ok(findings) } else { Err(findings) }
        }
    };
    let code = if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) };
    let findings = outcome.unwrap_or_else(|findings| findings);
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    code
}
