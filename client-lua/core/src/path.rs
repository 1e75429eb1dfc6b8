//! Where the daemon's control socket is.

use std::env;
use std::path::PathBuf;

/// The system's control socket.
const SYSTEM: &str = "/run/luassl/luassl.sock";

/// `$LUASSL_SOCKET`; else `$XDG_RUNTIME_DIR/luassl/luassl.sock` where there is one; else the system's.
#[must_use]
pub fn socket_path() -> PathBuf {
    if let Some(path) = env::var_os("LUASSL_SOCKET").filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let own = env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("luassl/luassl.sock"));
    own.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(SYSTEM))
}
