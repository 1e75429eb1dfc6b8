//! The documents are true as far as a test can look: their configurations are good, their links and files exist.
#![allow(clippy::unwrap_used)]

use luassl_supervisor::config::{self, Severity};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every page, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = root();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .chain([root.join("README.md"), root.join("SECURITY.md"), root.join("protocol/PROTOCOL.md")])
        .map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn every_sample_configuration_is_without_a_finding() {
    let mut samples = 0;
    for (page, text) in pages() {
        for sample in fenced(&text, "toml") {
            // `/` in place of the samples' directories: what a directory holds is no matter of the page.
            // A user of every Debian in place of one that a package brings.
            let sample =
                sample.replace("/etc/letsencrypt/live\"", "/\"").replace("\"prosody\"", "\"www-data\"");
            let loaded = config::load_text(&page, &sample, &config::Request::default());
            let findings: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
            assert!(findings.is_empty(), "{}: {}\n{sample}", page.display(), findings.join("\n"));
            samples += 1;
        }
    }
    assert!(samples >= 4, "{samples}");
}

#[test]
fn a_sample_with_an_unknown_key_would_be_found() {
    let loaded =
        config::load_text(Path::new("x"), "[control]\nsockt = \"/x\"\n", &config::Request::default());
    assert!(loaded.findings.iter().any(|finding| finding.severity == Severity::Error));
}

#[test]
fn every_key_of_the_configuration_is_in_its_page() {
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let raw = include_str!("../supervisor/src/config/raw.rs");
    let keys = raw.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
    let keys: Vec<_> = keys.map(|(key, _)| key).collect();
    assert!(keys.len() > 20);
    for key in keys {
        assert!(page.contains(&format!("`{key}`")) || page.contains(&format!("[{key}")), "{key}");
    }
}

#[test]
fn every_link_leads_to_a_file() {
    for (page, text) in pages() {
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let target = page.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{}: {link}", page.display());
        }
    }
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let mut paths = 0;
    for path in page.split('`').skip(1).step_by(2).filter(|code| code.contains('/') && !code.contains(' ')) {
        assert!(root().join(path).exists(), "{path}");
        paths += 1;
    }
    assert!(paths > 40, "{paths}");
}

#[test]
fn the_defaults_of_limits_are_the_pages() {
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let limits = luassl_settings::Limits::default();
    let counts = [
        ("connections_per_owner", limits.connections_per_owner),
        ("connections", limits.connections),
        ("contexts_per_owner", limits.contexts_per_owner),
        ("contexts", limits.contexts),
        ("listeners_per_owner", limits.listeners_per_owner),
        ("listeners", limits.listeners),
        ("handshakes_per_owner", limits.handshakes_per_owner),
        ("handshakes", limits.handshakes),
        ("handshakes_per_listener", limits.handshakes_per_listener),
        ("handshakes_per_source", limits.handshakes_per_source),
        ("psk_handshakes_per_owner", limits.psk_handshakes_per_owner),
        ("psk_handshakes", limits.psk_handshakes),
        ("undelivered_per_owner", limits.undelivered_per_owner),
        ("undelivered", limits.undelivered),
        ("control_connections_per_owner", limits.control_connections_per_owner),
        ("control_connections", limits.control_connections),
        ("blob_bytes_per_owner", limits.blob_bytes_per_owner),
        ("parsed_bytes_per_owner", limits.parsed_bytes_per_owner),
        ("parsed_bytes", limits.parsed_bytes),
        ("parsing_jobs_per_owner", limits.parsing_jobs_per_owner),
        ("parsing_cpu_per_owner", limits.parsing_cpu_per_owner),
        ("sessions_per_owner", limits.sessions_per_owner),
        ("sessions", limits.sessions),
        ("signatures_per_identity", limits.signatures_per_identity),
        ("signatures_per_front", limits.signatures_per_front),
        ("frame_bytes", limits.frame_bytes),
        ("handshake", limits.handshake_ms / 1000),
        ("client_hello", limits.client_hello_ms / 1000),
        ("shutdown", limits.shutdown_ms / 1000),
        ("request", limits.request_ms / 1000),
        ("keeper", limits.keeper_ms / 1000),
    ];
    for (key, default) in counts {
        assert!(page.contains(&format!("| `{key}` | {default} |")), "{key} = {default}");
    }
}
