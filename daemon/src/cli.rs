//! The command lines of `luassld` and `luasslctl`.

use clap::{Args, Parser, Subcommand};
use luassl_sandbox::isolation::Isolation;
use luassl_sandbox::user::User;
use luassl_settings::LogFormat;
use luassl_supervisor::config::Request;
use luassl_supervisor::ctl::{ConfigArgs, PushArgs, ReloadArgs, StatusArgs};
use std::path::PathBuf;

/// `luassld`
#[derive(Debug, Parser)]
#[command(name = "luassld", version, about = "TLS for Lua programs, with the keys in another process")]
pub struct Luassld {
    /// What to do.
    #[command(subcommand)]
    pub command: LuassldCommand,
}

/// What `luassld` does.
#[derive(Debug, Subcommand)]
pub enum LuassldCommand {
    /// Start keeper and fronts, hand them what they need, and start them again when they end
    Run(RunArgs),
    /// Load everything, say what is wrong, where, and how to mend it (exit 0: nothing, 1: warnings, 2: errors)
    Check(ConfigArgs),
    /// Serve Lua programs; takes its sockets from systemd or from `luassld run`
    Front(FrontArgs),
    /// For `luassld run` alone: become keeper or front
    #[command(hide = true)]
    Launch,
}

/// `luassld run`
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The control socket; otherwise the configuration's, else /run/luassl/luassl.sock as root and
    /// $XDG_RUNTIME_DIR/luassl/luassl.sock as anybody else
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl From<RunArgs> for Request {
    fn from(args: RunArgs) -> Self {
        Self { socket: args.socket, ..args.config.into() }
    }
}

/// `luassld front`
#[derive(Debug, Clone, Args)]
pub struct FrontArgs {
    /// The front's name
    #[arg(long, value_name = "NAME", default_value = luassl_supervisor::config::DEFAULT_FRONT)]
    pub name: String,
    /// The keeper's socket for this front
    #[arg(long, value_name = "PATH")]
    pub keeper: PathBuf,
    /// The user to become, by numbers; for `luassld run` as root
    #[arg(long, value_name = "UID:GID", hide = true)]
    pub user: Option<User>,
    /// How to leave the file system and the network; for `luassld run`
    #[arg(long, value_name = "KIND", hide = true)]
    pub isolation: Option<Isolation>,
    /// The least important level that is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing::Level,
    /// How a line of the log looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// `luasslctl`
#[derive(Debug, Parser)]
#[command(name = "luasslctl", version, about = "The supervisor's part where systemd starts keeper and front")]
pub struct Luasslctl {
    /// What to do.
    #[command(subcommand)]
    pub command: LuasslctlCommand,
}

/// What `luasslctl` does.
#[derive(Debug, Subcommand)]
pub enum LuasslctlCommand {
    /// Hand one unit what it needs: the keeper its keys, or a front its configuration and trusts
    Push(PushArgs),
    /// Read everything again, and hand it to the keeper and to every front
    Reload(ReloadArgs),
    /// Say what the keeper has signed and refused, for each front and identity, and what each front has open, has shaken
    /// hands on and has refused, for each owner
    Status(StatusArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_lines_are_sound() {
        Luassld::command().debug_assert();
        Luasslctl::command().debug_assert();
    }

    #[test]
    fn a_front_is_started_as_systemd_does() {
        let parsed = Luassld::parse_from(["luassld", "front", "--name", "a", "--keeper", "/run/k"]);
        let LuassldCommand::Front(options) = parsed.command else { panic!("no front") };
        assert_eq!((options.name.as_str(), options.keeper.to_str()), ("a", Some("/run/k")));
        assert_eq!(options.log_level, tracing::Level::INFO);
    }
}
