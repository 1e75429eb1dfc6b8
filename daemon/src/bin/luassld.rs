//! `luassld`: the supervisor and the front.

use clap::Parser;
use luassl_daemon::cli::{FrontArgs, Luassld, LuassldCommand};
use luassl_daemon::{listen_fds, logging};
use luassl_front::{self as front, FrontError, FrontOptions};
use luassl_settings::Log;
use luassl_supervisor::check;
use luassl_supervisor::config::Finding;
use luassl_supervisor::ctl::ConfigArgs;
use luassl_supervisor::run::{self as supervisor, Programs, launch};
use std::io::Write;
use std::process::ExitCode;

/// What a command gives back that could not do what it should.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Luassld::parse().command {
        // Closes what was inherited by mistake: nothing may be opened before it.
        LuassldCommand::Launch => Err(vec![Finding::error(None, launch::launch().to_string())]),
        LuassldCommand::Run(args) => Programs::installed()
            .map_err(|finding| vec![finding])
            .and_then(|programs| supervisor::run(&args.into(), programs, logging::start)),
        LuassldCommand::Check(args) => return check(args),
        LuassldCommand::Front(args) => {
            serve(args).map_err(|error| vec![Finding::error(None, error.to_string())])
        }
    };
    let findings = outcome.err().unwrap_or_default();
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}

fn serve(args: FrontArgs) -> Result<(), FrontError> {
    logging::start(Log { level: args.log_level, format: args.log_format });
    let FrontArgs { name, keeper, user, isolation, .. } = args;
    front::run(FrontOptions { name, keeper, user, isolation, sockets: listen_fds::take()? })
}

fn check(args: ConfigArgs) -> ExitCode {
    let verdict = check::run(&args.into());
    let mut out = std::io::stdout().lock();
    for finding in &verdict.findings {
        // Whoever closed the pipe does not want to know.
        let _ = writeln!(out, "{finding}");
    }
    let _ = writeln!(out, "{}", verdict.summary());
    ExitCode::from(verdict.exit_code())
}
