//! docs/threat-model.md names a test for each claim; every one of them exists.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The attacks are numbered up to here.
const ATTACKS: u32 = 18;
/// The findings of the review likewise.
const FINDINGS: u32 = 24;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap()
}

/// What stands in backquotes and looks like a test's name.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let looks = |code: &&str| {
        code.matches('_').count() >= 2
            && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.split('`').skip(1).step_by(2).filter(looks).filter(|code| *code != "memfd_secret")
}

/// Every function of the repository that `#[test]` stands before.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in ["client-lua", "daemon", "keeper", "protocol", "tests"] {
        collect(&root().join(part), &mut found);
    }
    found
}

fn collect(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let after = text.split("#[test]").skip(1).chain(text.split("#[tokio::test").skip(1));
            found.extend(after.filter_map(function));
        }
    }
}

/// The name of the first function of `text`.
fn function(text: &str) -> Option<String> {
    let rest = text.split_once("fn ")?.1;
    Some(rest.split_once('(')?.0.to_owned())
}

#[test]
fn every_test_of_the_threat_model_exists() {
    let (page, tests) = (page(), tests());
    let missing: Vec<&str> = names(&page).filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(names(&page).count() > 80);
}

#[test]
fn a_name_that_is_no_tests_would_be_found() {
    assert_eq!(names("`this_is_no_test`, `fn`, `an/a_path_of_it`").collect::<Vec<_>>(), ["this_is_no_test"]);
    assert!(!tests().contains("this_is_no_test"));
}

/// The rows of a section's table by their numbers.
fn rows<'a>(page: &'a str, section: &str) -> BTreeMap<u32, &'a str> {
    let part = page.split_once(&format!("\n## {section}\n")).unwrap().1.split_once("\n## ").unwrap().0;
    part.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter_map(|(number, rest)| Some((number.parse().ok()?, rest)))
        .collect()
}

#[test]
fn every_finding_has_its_row_with_every_test_of_its_number() {
    let page = page();
    let rows = rows(&page, "What a review found");
    assert!(rows.keys().copied().eq(1..=FINDINGS), "{rows:?}");
    for (number, row) in rows {
        let own = format!("finding_{number}_");
        let tests: BTreeSet<String> = tests().into_iter().filter(|test| test.starts_with(&own)).collect();
        let named: BTreeSet<String> =
            names(row).filter(|name| name.starts_with(&own)).map(str::to_owned).collect();
        assert!(!tests.is_empty() && tests == named, "{number}: {tests:?}");
    }
}

#[test]
fn every_attack_has_its_row_and_its_tests() {
    let page = page();
    let rows = rows(&page, "The attacks");
    assert!(rows.keys().copied().eq(1..=ATTACKS), "{rows:?}");
    let untested = rows.iter().filter(|(_, rest)| names(rest).next().is_none()).map(|(number, _)| *number);
    assert_eq!(untested.collect::<Vec<_>>(), [0_u32; 0]);
}

#[test]
fn every_file_of_the_threat_model_exists() {
    let page = page();
    let paths =
        page.split('`').skip(1).step_by(2).filter(|code| code.contains('/') && !code.starts_with('/'));
    for path in paths {
        assert!(root().join(path).exists(), "{path}");
    }
}
