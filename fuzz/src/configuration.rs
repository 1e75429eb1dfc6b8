//! The operator's file.

use luassl_supervisor::config::{Request, Severity, load_text};
use std::path::Path;

/// Whatever the text, there is a configuration or an error that says why not, and each finding can be printed. What
/// would read a directory of this machine is left to the unit tests.
pub(crate) fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if text.contains("directory") {
        return;
    }
    let loaded = load_text(Path::new("/etc/luassl/luassl.toml"), text, &Request::default());
    let failed = loaded.findings.iter().any(|finding| finding.severity == Severity::Error);
    assert_eq!(loaded.config.is_none(), failed);
    for finding in &loaded.findings {
        assert!(!finding.to_string().is_empty());
    }
}
