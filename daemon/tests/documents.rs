//! The documents are true as far as a test can look: their configurations are good, their links and files exist.
#![allow(clippy::unwrap_used)]

use luassl_settings::{Limit, Limits};
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

/// A limit's name and its default, as the configuration gives them.
fn limit_defaults() -> Vec<(&'static str, String)> {
    let default = |limit: &Limit| limit.configured(limit.default_value()).to_string();
    Limits::ALL.iter().map(|limit| (limit.name, default(limit))).collect()
}

#[test]
fn the_page_lists_every_limit_with_its_default() {
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("`[limits]`")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: Vec<_> = rows.map(|(key, rest)| (key, rest.split(" |").next().unwrap().to_owned())).collect();
    assert_eq!(rows, limit_defaults());
}

#[test]
fn limits_in_the_sample_configuration_have_their_defaults() {
    let sample = std::fs::read_to_string(root().join("systemd/luassl.toml")).unwrap();
    let (_, section) = sample.split_once("\n[limits]\n").unwrap();
    let examples: Vec<_> =
        section.lines().map_while(|line| line.strip_prefix('#')?.split_once(" = ")).collect();
    assert!(!examples.is_empty());
    let defaults = limit_defaults();
    for (key, value) in examples {
        assert!(defaults.contains(&(key, value.to_owned())), "{key} = {value}");
    }
}
