//! The location of the daemon's control socket.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// The system's control socket.
const SYSTEM: &str = "/run/luassl/luassl.sock";

/// Returns `$LUASSL_SOCKET`; otherwise `$XDG_RUNTIME_DIR/luassl/luassl.sock` if it exists; otherwise the
/// system's.
#[must_use]
pub fn socket_path() -> PathBuf {
    choose(env::var_os("LUASSL_SOCKET"), env::var_os("XDG_RUNTIME_DIR"))
}

fn choose(named: Option<OsString>, runtime: Option<OsString>) -> PathBuf {
    if let Some(path) = named.filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let own = runtime.map(|directory| PathBuf::from(directory).join("luassl/luassl.sock"));
    own.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(SYSTEM))
}

#[cfg(test)]
mod tests {
    use crate::path::{SYSTEM, choose};
    use std::path::Path;

    #[test]
    fn the_named_socket_comes_first_then_the_users_own_then_the_systems() {
        let runtime = tempfile::tempdir().unwrap();
        let directory = || Some(runtime.path().as_os_str().to_owned());
        assert_eq!(choose(None, None), Path::new(SYSTEM));
        assert_eq!(choose(Some("".into()), directory()), Path::new(SYSTEM));
        let own = runtime.path().join("luassl/luassl.sock");
        std::fs::create_dir(runtime.path().join("luassl")).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(choose(None, directory()), own);
        assert_eq!(choose(Some("elsewhere".into()), directory()), Path::new("elsewhere"));
    }
}
