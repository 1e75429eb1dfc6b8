//! The programs in the documents are programs: each can be parsed, and the commands of the README work.

use luassl_tests::process::Process;
use luassl_tests::{built, peer, repository, scratch, until};
use rustix::process::Signal;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every ```lua block, with the page that it is in.
fn programs() -> Vec<(PathBuf, String)> {
    let root = repository();
    let pages = std::fs::read_dir(root.join("docs")).expect("docs").flatten().map(|entry| entry.path());
    let pages = pages.chain(["README.md", "client-lua/README.md"].map(|page| root.join(page)));
    let pages = pages.filter(|page| page.extension().is_some_and(|end| end == "md"));
    pages
        .flat_map(|page| blocks(&text(&page), "lua").into_iter().map(move |block| (page.clone(), block)))
        .collect()
}

fn text(page: &Path) -> String {
    std::fs::read_to_string(page).expect("a page")
}

/// The fenced blocks of `language` in a page or a part of one.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let after = text.split(&opening).skip(1);
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

/// A reader of the README's first program: a directory with what `make` built, and the section's text.
struct Reader {
    directory: tempfile::TempDir,
    section: String,
    port: u16,
}

impl Reader {
    /// Has saved the section's programs. Port and control socket are the test's own; for another Lua, interpreter and
    /// module's directory too.
    fn of_first_program(interpreter: &str, abi: &str) -> Self {
        let directory = scratch();
        // As the README's /tmp: processes of other users pass through it.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let build = built("bin").parent().expect("build").to_path_buf();
        symlink(build, directory.path().join("build")).expect("a link");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let port = free.expect("a port").port();
        let readme = text(&repository().join("README.md"));
        let section = readme.split("\n## ").find(|section| section.starts_with("A first program"));
        let mut section = section.expect("the section").to_owned();
        let own = [
            ("lua5.4", interpreter.to_owned()),
            ("lua/5.4", format!("lua/{abi}")),
            ("8443", port.to_string()),
            ("/tmp/luassl.sock", directory.path().join("luassl.sock").display().to_string()),
        ];
        for (readmes, own) in own {
            assert!(section.contains(readmes), "{readmes}: {section}");
            section = section.replace(readmes, &own);
        }
        let reader = Self { directory, section, port };
        let programs = blocks(&reader.section, "lua");
        assert_eq!(programs.len(), 2, "{programs:?}");
        for (name, program) in ["hello.lua", "client.lua"].into_iter().zip(programs) {
            std::fs::write(reader.directory.path().join(name), program).expect("a program");
        }
        reader
    }

    /// The one block of commands with `words` in it.
    fn block(&self, words: &str) -> String {
        let blocks = blocks(&self.section, "sh").into_iter();
        let found: Vec<_> = blocks.filter(|block| block.contains(words)).collect();
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        found.concat()
    }

    /// Types `commands` into a shell of its own.
    fn types(&self, commands: &str) -> Process {
        let mut shell = Command::new("sh");
        Process::start(shell.args(["-ec", commands]).current_dir(self.directory.path()))
    }

    /// Starts the daemon. `exec` so that signals reach it.
    fn starts_daemon(&self) -> Process {
        let mut daemon = self.types(&format!("exec {}", self.block("luassld run")));
        assert_eq!(daemon.line(), "ready", "{}", daemon.transcript());
        daemon
    }

    /// Starts a saved program, in a terminal of its own.
    fn starts(&self, program: &str) -> Process {
        self.types(&format!("{}\nexec {}", self.block("export"), self.block(program)))
    }
}

#[test]
fn the_first_program_of_the_readme_is_typed_as_it_stands_and_survives_a_restart_of_the_daemon() {
    const SAID: &str = "hello over TLSv1.3\n";
    for (interpreter, abi) in [("lua5.4", "5.4"), ("luajit", "jit")] {
        let reader = Reader::of_first_program(interpreter, abi);
        reader.types(&reader.block("openssl req")).finish();
        let mut daemon = reader.starts_daemon();
        let mut server = reader.starts("hello.lua");
        until("the program to listen", || {
            assert!(server.runs(), "{}", server.transcript());
            peer::tcp(reader.port).is_ok()
        });
        assert_eq!(reader.starts("client.lua").finish(), SAID);
        assert_eq!(reader.types(&format!("exec {}", reader.block("s_client"))).finish(), SAID);

        daemon.signal(Signal::TERM);
        assert!(daemon.wait().success(), "{}", daemon.transcript());
        // It has seen that the daemon is gone.
        server.expect_error("the daemon went away");
        let _daemon = reader.starts_daemon();
        assert_eq!(reader.starts("client.lua").finish(), SAID);
        assert!(server.runs(), "{}", server.transcript());
    }
}
