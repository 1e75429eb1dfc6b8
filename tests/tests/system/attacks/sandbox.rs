//! A front or a keeper that was taken over tries to get out. That an unrestricted process gets through with each attempt
//! is a test of `luassl-sandbox`.

use luassl_tests::daemon::Daemon;

/// What a process without restrictions may do, whoever runs it.
pub(super) const ATTEMPTS: [&str; 15] = [
    "open",
    "mkdir",
    "socket-inet",
    "socket-inet6",
    "socket-netlink",
    "execve",
    "fork",
    "ptrace",
    "process_vm_readv",
    "pidfd_open",
    "kill",
    "unshare",
    "memfd_create",
    "executable-memory",
    "write-to-code",
];

/// A daemon with a front of this name.
pub(super) fn with_front(name: &str) -> Daemon {
    Daemon::hostile(&configuration(name))
}

pub(super) fn with_front_on_a_kernel_without(calls: &[i64], name: &str) -> Daemon {
    Daemon::hostile_on_a_kernel_without(calls, &configuration(name))
}

fn configuration(front: &str) -> String {
    format!(
        "[control]\nsocket = 'SOCKET'\n[identities]\ndirectory = 'PKI/keys'\n[front.{front}]\n\
         [[grant]]\nuser = UID\nidentities = ['*']\n"
    )
}

#[test]
fn a_front_is_refused_whatever_it_tries() {
    for attempt in ATTEMPTS {
        let daemon = with_front(&format!("hostile-front-{attempt}"));
        daemon.expect_log(&format!("hostile: {attempt}: Operation not permitted"));
        // And serves on.
        daemon.expect_log(" ready");
    }
}

/// libc opens files by itself and does without: that fails. Everything else ends the keeper.
#[test]
fn a_keeper_that_tries_anything_ends_or_is_refused() {
    for attempt in ATTEMPTS {
        let daemon = with_front(&format!("hostile-keeper-{attempt}"));
        daemon.expect_log(&format!("hostile: {attempt}\n"));
        if attempt == "open" {
            daemon.expect_log("hostile: open: Err(Os { code: 1, kind: PermissionDenied");
        } else {
            daemon.expect_log("keeper ended: signal: 31 (SIGSYS)");
            assert!(!daemon.log().contains(&format!("hostile: {attempt}: ")), "{}", daemon.log());
        }
    }
}

/// As the kernel has it of every thread.
#[test]
fn what_sandboxes_there_are_is_seen_from_outside() {
    let daemon = Daemon::start();
    for pid in [daemon.front(), daemon.keeper()] {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned())
        };
        assert_eq!(field("NoNewPrivs").as_deref(), Some("1"));
        assert_eq!(field("Seccomp").as_deref(), Some("2"));
    }
}

/// The kernel drops audit lines of a flood, such as other tests make.
mod alone {
    use super::*;
    use luassl_tests::kernel::refused_calls;
    use luassl_tests::lua::LUA54;

    const TRIES: usize = 5;

    mod needs_root {
        use super::*;

        #[test]
        fn a_refused_call_of_the_front_is_in_the_kernels_audit_log() {
            let calls = [
                ("open", libc::SYS_openat),
                ("socket-inet", libc::SYS_socket),
                ("execve", libc::SYS_execve),
                ("ptrace", libc::SYS_ptrace),
            ];
            for (attempt, call) in calls {
                let seen = || {
                    let daemon = with_front(&format!("hostile-front-{attempt}"));
                    daemon.expect_log(&format!("hostile: {attempt}: Operation not permitted"));
                    refused_calls(daemon.front())
                };
                let Some(refused) = (0..TRIES).map(|_| seen()).find(|seen| seen.as_deref() != Some(&[]))
                else {
                    panic!("{attempt} is not in the kernel's log");
                };
                // It said why there is none.
                let Some(refused) = refused else { return };
                assert_eq!(refused, [call], "{attempt}");
            }
        }

        /// Positive control: a front that serves makes no call that is refused, so that each line is worth a look.
        #[test]
        fn a_front_that_serves_leaves_nothing_in_the_kernels_audit_log() {
            let daemon = Daemon::start();
            let mut agent = luassl_tests::agent::Agent::start(&daemon, LUA54);
            let port = crate::api::serve(&mut agent, "ssl.wrap('keys/server.pem')");
            for _ in 0..10 {
                let _tls = crate::api::accepted(&mut agent, port);
            }
            let Some(refused) = refused_calls(daemon.front()) else { return };
            assert_eq!(refused, [0_i64; 0]);
        }
    }
}
