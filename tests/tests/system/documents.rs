//! The programs in the documents are programs: each can be parsed, and the first one of the README runs.

use luassl_tests::daemon::Daemon;
use luassl_tests::lua::{LUA54, LUAJIT};
use luassl_tests::process::Process;
use luassl_tests::{peer, pki, repository, scratch};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

/// Every ```lua block, with the page that it is in.
fn programs() -> Vec<(PathBuf, String)> {
    let root = repository();
    let pages = std::fs::read_dir(root.join("docs")).expect("docs").flatten().map(|entry| entry.path());
    let pages = pages.chain(["README.md", "client-lua/README.md"].map(|page| root.join(page)));
    let pages = pages.filter(|page| page.extension().is_some_and(|end| end == "md"));
    pages.flat_map(|page| blocks(&page).into_iter().map(move |block| (page.clone(), block))).collect()
}

fn blocks(page: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).expect("a page");
    let after = text.split("```lua\n").skip(1);
    after.map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_program_of_the_documents_can_be_parsed() {
    let programs = programs();
    assert!(programs.len() > 3, "{}", programs.len());
    let directory = scratch();
    let file = directory.path().join("program.lua");
    let loader = directory.path().join("loader.lua");
    std::fs::write(&loader, "assert(loadfile(arg[1]))").expect("a file");
    for (page, program) in programs {
        std::fs::write(&file, &program).expect("a file");
        for interpreter in ["lua5.1", "lua5.4", "luajit"] {
            let mut command = Command::new(interpreter);
            let output = command.arg(&loader).arg(&file).output().expect("an interpreter");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}, {interpreter}: {said}\n{program}", page.display());
        }
    }
}

#[test]
fn the_first_program_of_the_readme_runs() {
    let keys = scratch();
    luassl_tests::copy_file(pki::file("keys/server.pem"), keys.path().join("www.pem"));
    let daemon = Daemon::with_identities(keys.path());
    let program = blocks(&repository().join("README.md")).remove(0);
    for lua in [LUA54, LUAJIT] {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let port = port.expect("a port").port();
        assert!(program.contains("8443"), "{program}");
        let file = keys.path().join("hello.lua");
        std::fs::write(&file, program.replace("8443", &port.to_string())).expect("a program");
        let _server = Process::start(lua.command(&daemon).arg(&file));
        luassl_tests::until("the program to listen", || peer::tcp(port).is_ok());
        for _ in 0..2 {
            let mut said = String::new();
            peer::connect(port).read_to_string(&mut said).expect("a clean end");
            assert_eq!(said, "hello over TLSv1.3\n");
        }
    }
}
