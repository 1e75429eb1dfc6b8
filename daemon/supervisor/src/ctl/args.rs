//! The options of `luasslctl`, and those that name a configuration.

use crate::config::Request;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Which configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// The configuration; without it and without --identities, /etc/luassl/luassl.toml if there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Declare what lies here: NAME.pem, NAME.key with NAME.crt, NAME/privkey.pem with NAME/fullchain.pem
    #[arg(long, value_name = "DIR")]
    pub identities: Vec<PathBuf>,
}

impl From<ConfigArgs> for Request {
    fn from(args: ConfigArgs) -> Self {
        Self { config: args.config, identities: args.identities, socket: None }
    }
}

/// Whom a push is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// luassl-keeper.service
    Keeper,
    /// luassld.service
    Front,
}

/// `luasslctl push`
#[derive(Debug, Clone, Args)]
pub struct PushArgs {
    /// Whom it is for
    #[arg(long, value_name = "UNIT")]
    pub to: Target,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The unit's admin socket; /run/luassl/keeper-admin.sock or /run/luassl/front-admin.sock without it
    #[arg(long, value_name = "PATH")]
    pub admin: Option<PathBuf>,
    /// The front's name
    #[arg(long, value_name = "NAME", default_value = crate::config::DEFAULT_FRONT)]
    pub name: String,
}

/// `luasslctl reload`
#[derive(Debug, Clone, Args)]
pub struct ReloadArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The keeper's admin socket; /run/luassl/keeper-admin.sock without it
    #[arg(long, value_name = "PATH")]
    pub keeper_admin: Option<PathBuf>,
    /// A front's admin socket; without it /run/luassl/front-admin.sock for `default`, and
    /// /run/luassl/front-NAME-admin.sock for any other
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path)]
    pub front_admin: Vec<(String, PathBuf)>,
}

/// `luasslctl status`
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The keeper's admin socket; /run/luassl/keeper-admin.sock without it
    #[arg(long, value_name = "PATH")]
    pub keeper_admin: Option<PathBuf>,
    /// A front's admin socket; all of /run/luassl without it
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path)]
    pub front_admin: Vec<(String, PathBuf)>,
    /// The control socket of a `luassld run`, whose fronts are asked; without it the units, or where there are none the
    /// `luassld run` with the default control socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["keeper_admin", "front_admin"])]
    pub socket: Option<PathBuf>,
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    text.split_once('=')
        .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        .ok_or_else(|| "write NAME=PATH".to_owned())
}
