//! Landlock with no rules: no file can be opened, made, changed or run any more, no TCP port bound or connected to, no
//! abstract Unix socket of another process connected to, and no signal sent to another process. Descriptors that are open, or that come over a socket, work as before.

use crate::SandboxError;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};

/// Whether the process still connects to Unix sockets by their paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnixSockets {
    /// It does.
    Connects,
    /// It does not: it already has all sockets that it needs.
    None,
}

/// How much of it the kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforced {
    /// All that is asked for.
    Fully,
    /// What an older kernel can.
    Partly,
    /// The kernel has no Landlock, or it is switched off.
    Not,
}

/// Takes all files and the network from this thread and from those that it starts, as far as the kernel can.
///
/// # Errors
/// [`SandboxError::Files`] where the kernel can and does not.
pub fn none(sockets: UnixSockets) -> Result<Enforced, SandboxError> {
    let files = match sockets {
        // From ABI 9 on paths of sockets count as files.
        UnixSockets::Connects => AccessFs::from_all(ABI::V8),
        UnixSockets::None => AccessFs::from_all(ABI::V10),
    };
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files)?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?
        .no_new_privs(true)
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}
