//! `make demo`'s program, from a copy of the tree.

use luassl_tests::daemon::STRANGER;
use luassl_tests::{built, repository, scratch};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

/// What the demo needs of the tree.
const PARTS: [&str; 3] = ["demo", "scripts", "examples"];
const BUILT: [&str; 3] = ["bin", "lua", "test/keyscan"];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp");
    assert!(status.success(), "{} cannot be copied", from.display());
}

/// What it says as user `uid`.
fn says(uid: Option<u32>) -> String {
    let tree = scratch();
    PARTS.iter().for_each(|part| copy(&repository().join(part), &tree.path().join(part)));
    BUILT.iter().for_each(|part| copy(&built(part), &tree.path().join("build").join(part)));
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    let mut command = Command::new("timeout");
    command.arg("120").arg("demo/demo.sh").current_dir(&tree).env("TMPDIR", tree.path());
    command.env("PORT", port.expect("a port").port().to_string());
    if let Some(uid) = uid {
        use std::os::unix::process::CommandExt;
        let owner = format!("{uid}:{uid}");
        assert!(
            Command::new("chown")
                .arg("-R")
                .arg(owner)
                .arg(tree.path())
                .status()
                .is_ok_and(|end| end.success())
        );
        command.uid(uid).gid(uid);
    }
    let output = command.output().expect("the demo starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

fn line<'a>(said: &'a str, beginning: &str) -> &'a str {
    said.lines()
        .find(|line| line.starts_with(beginning))
        .unwrap_or_else(|| panic!("no {beginning} in {said}"))
}

#[test]
fn without_root_the_kernel_refuses_the_demos_look_into_the_front_and_it_says_so() {
    let stranger = rustix::process::geteuid().is_root().then_some(STRANGER);
    let said = says(stranger);
    for process in ["luassld front (", "luassl-keeper ("] {
        assert!(line(&said, process).contains("the kernel refuses to let it be read"), "{said}");
    }
    assert!(line(&said, "lua5.4 ").contains(": 0 hits in"), "{said}");
    // Positive control: of the same user, without the protection.
    let found = line(&said, "openssl s_server (");
    assert!(!found.contains(": 0 hits") && found.contains(" hits in"), "{said}");
}

mod needs_root {
    use super::*;

    #[test]
    fn as_root_the_demo_looks_into_all_of_them_and_finds_nothing() {
        let said = says(None);
        for process in ["lua5.4 ", "luassld front ("] {
            assert!(line(&said, process).contains(": 0 hits in"), "{said}");
        }
    }
}
