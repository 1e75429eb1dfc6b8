//! The programs that the supervisor starts.

use crate::config::Finding;
use crate::run::child::launch::Program;
use crate::run::isolation::{Isolation, Isolations};
use crate::run::users::Users;
use std::path::{Path, PathBuf};

/// The programs that the supervisor starts.
#[derive(Debug, Clone)]
pub struct Programs {
    /// A `luassld`, which starts the other programs by exec.
    pub launcher: PathBuf,
    /// The keeper.
    pub keeper: Program,
    /// The front; its options are added to the arguments.
    pub front: Program,
}

impl Programs {
    /// Returns the programs that were installed together with the running one.
    ///
    /// # Errors
    /// Returns a finding if the keeper cannot be found.
    pub fn installed() -> Result<Self, Finding> {
        let own = std::env::current_exe()
            .map_err(|error| Finding::error(None, format!("luassld cannot find its own file: {error}")))?;
        let keeper = Program { file: keeper_file(&own)?, arguments: Vec::new() };
        let front = Program { file: own.clone(), arguments: vec!["front".to_owned()] };
        Ok(Self { launcher: own, keeper, front })
    }
}

impl Programs {
    /// Adds the option with which the keeper switches to its user.
    #[must_use]
    pub fn for_users(mut self, users: &Users) -> Self {
        let option = users.keeper.map(|user| ["--user".to_owned(), user.to_string()]);
        self.keeper.arguments.extend(option.into_iter().flatten());
        self
    }

    /// Adds the options with which the children isolate themselves from the file system and the network.
    #[must_use]
    pub fn isolated(mut self, isolations: Isolations) -> Self {
        let option = |kind: Isolation| ["--isolation".to_owned(), kind.to_string()];
        self.keeper.arguments.extend(isolations.keeper.map(option).into_iter().flatten());
        self.front.arguments.extend(isolations.fronts.map(option).into_iter().flatten());
        self
    }
}

/// Returns the file of the keeper's program: beside luassld, or in libexec.
fn keeper_file(own: &Path) -> Result<PathBuf, Finding> {
    let directory = own.parent().unwrap_or(Path::new("/"));
    [directory.join("luassl-keeper"), directory.join("../libexec/luassl/luassl-keeper")]
        .into_iter()
        .find(|file| file.exists())
        .ok_or_else(|| {
            Finding::error(None, format!("luassl-keeper is not in {}", directory.display()))
                .hint("install luassld and luassl-keeper side by side")
        })
}
