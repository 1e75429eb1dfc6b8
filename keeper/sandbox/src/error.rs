//! Why a process could not be restricted.

use rustix::io::Errno;

/// Why a process could not be restricted. It must not serve then.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Core dumps, debuggers or new privileges cannot be kept out.
    #[error("the process cannot be closed to debuggers and core dumps: {0}")]
    Close(#[source] Errno),
    /// The kernel does not accept a seccomp filter.
    #[error("system calls cannot be restricted: {0}")]
    Calls(#[from] seccompiler::Error),
    /// The kernel does not accept a seccomp filter that logs.
    #[error("system calls cannot be restricted: {0}")]
    Logged(#[source] std::io::Error),
    /// The filter cannot be written for this machine.
    #[error("system calls cannot be restricted: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel has Landlock but does not accept the rules.
    #[error("access to files cannot be restricted: {0}")]
    Files(#[from] landlock::RulesetError),
    /// The process cannot have its own root directory and network.
    #[error("the process cannot have an empty root directory and its own network: {0}")]
    Isolation(#[source] Errno),
    /// The process cannot become another user.
    #[error("the process cannot become user {0}: {1}")]
    User(String, #[source] Errno),
}
