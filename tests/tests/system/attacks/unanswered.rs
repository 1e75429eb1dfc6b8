//! Attack 14 with a file whose server never answers: closing it waits for ever, and so would whoever closes it. A user who
//! may mount FUSE file systems has such files at will.

use crate::api::{accepted, serve};
use luassl_keeper_ipc::transport::{PollFlags, send, wait};
use luassl_protocol::{
    Bind, Bound, Connect, Connecting, ContextSpec, ErrorCode, Failure, Mode, Request, Role,
};
use luassl_tests::agent::Agent;
use luassl_tests::daemon::{Daemon, STRANGER};
use luassl_tests::fuse::{FLUSH, READ, Stalled};
use luassl_tests::lua::LUA54;
use luassl_tests::peer::{Server, tcp};
use luassl_tests::process::{Process, as_user, signal_pid};
use luassl_tests::wire::{Control, unverified};
use luassl_tests::{PATIENCE, until};
use rustix::net::SendFlags;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

/// Messages of an attack, each with 253 descriptors.
const ATTEMPTS: u32 = 60;

/// More than an owner may have on the way to being closed.
const PIPES: usize = 200;

/// A daemon for a hostile program and, by another control socket, for a good one: two owners.
fn daemon() -> Daemon {
    Daemon::with_config(
        "[control]\nsocket = 'SOCKET'\nmode = '0666'\n[socket.hostile]\npath = 'DIR/hostile.sock'\n[identities]\n\
         directory = 'PKI/keys'\n[[grant]]\nuser = UID\nidentities = ['*']\n[[grant]]\nsocket = 'hostile'\n\
         identities = ['*']\n",
    )
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn hostile(daemon: &Daemon) -> Control {
    Control::open(&daemon.directory().join("hostile.sock"))
}

fn connect(context: u64, role: Role, mode: Mode) -> Request {
    Request::Connect(Connect::new(context, role, mode))
}

/// Passes the file as everything that a descriptor may be; gives the refusals.
fn pass_as_anything(control: &mut Control, file: BorrowedFd<'_>) -> Vec<ErrorCode> {
    let client = control.context(unverified()).expect("a context");
    let spec = ContextSpec { identity: Some("server-p256".into()), ..ContextSpec::default() };
    let server = control.context(spec).expect("a context");
    let refused = |failure: Failure| failure.code;
    let mut connecting = |request| control.pass::<Connecting>(&request, &[file]).map(drop).map_err(refused);
    let mut outcomes = vec![
        connecting(connect(client, Role::Client, Mode::Stream)),
        connecting(connect(client, Role::Client, Mode::LockStep)),
        connecting(connect(server, Role::Server, Mode::Stream)),
        connecting(connect(server, Role::Server, Mode::LockStep)),
    ];
    let bind = Request::Bind(Bind { context: server, listener: None });
    outcomes.push(control.pass::<Bound>(&bind, &[file]).map(drop).map_err(refused));
    outcomes.into_iter().map(|outcome| outcome.expect_err("a refusal")).collect()
}

/// Another owner's program has pipes closed that it passed by mistake, more than may wait to be.
fn mistakes_are_closed(control: &mut Control) {
    let client = control.context(unverified()).expect("a context");
    for _ in 0..PIPES {
        let (reads, writes) = rustix::pipe::pipe().expect("a pipe");
        let request = connect(client, Role::Client, Mode::Stream);
        assert!(control.pass::<Connecting>(&request, &[writes.as_fd()]).is_err());
        drop(writes);
        // The end comes when the front has closed its copy.
        let ended = wait([reads.as_fd()], PollFlags::IN, Some(PATIENCE)).expect("a wait");
        assert_eq!(ended, [true], "the front keeps a pipe that it refused");
    }
}

/// A port that nobody has.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
    socket.and_then(|socket| socket.local_addr()).expect("a port").port()
}

mod needs_root {
    use super::*;

    /// What says that this process is for one test.
    const ALONE: &str = "LUASSL_TEST_ALONE";

    /// Runs the test that calls it in a process of its own: a process that is started while such a file is open waits for
    /// it, and other tests start some. False in that process.
    fn sent_out() -> bool {
        if std::env::var_os(ALONE).is_some() {
            return false;
        }
        let thread = std::thread::current();
        let name = thread.name().expect("the test's name");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([name, "--exact", "--nocapture"]).env(ALONE, "1");
        let mut process = Process::start(&mut command);
        let status = process.wait_within(3 * PATIENCE);
        let said = process.output();
        print!("{said}");
        assert!(status.success() && said.contains("1 passed"), "{}", process.errors());
        eprint!("{}", process.errors());
        true
    }

    #[test]
    fn attack_14_a_file_whose_server_never_answers_keeps_nobody_but_who_passed_it() {
        if sent_out() {
            return;
        }
        let daemon = daemon();
        let mut agent = Agent::start(&daemon, LUA54);
        let port = serve(&mut agent, "ssl.wrap('server-p256')");
        let server = Server::start("server-p256", |_| {});
        let mut good = Control::open(&daemon.socket());
        let Some(stalled) = Stalled::mount() else { return };
        // Positive control: who reads it waits.
        let file = stalled.file().try_clone().expect("a copy");
        let reader = std::thread::spawn(move || (&file).read(&mut [0]).map_err(|error| error.raw_os_error()));
        stalled.expect(READ);

        let mut control = hostile(&daemon);
        assert_eq!(pass_as_anything(&mut control, stalled.file().as_fd()), [ErrorCode::Descriptor; 5]);
        // The front's close of it waits, by now.
        stalled.expect(FLUSH);
        mistakes_are_closed(&mut good);
        let _tls = accepted(&mut agent, port);

        // Over a connection of its own, which carries plaintext and nothing else.
        let tcp = tcp(server.port()).expect("tcp");
        let (stream, _peer) = control.stream(&tcp, || server.accept().expect("a handshake"));
        let file = [stalled.file().as_fd()];
        luassl_keeper_ipc::transport::send(&stream.socket, b"x", &file, SendFlags::empty()).expect("sent");
        mistakes_are_closed(&mut good);
        let _tls = accepted(&mut agent, port);

        // And without a frame that would take it, until the front reads no more of this program.
        let frame = connect(0, Role::Client, Mode::Stream).to_frame(99).expect("a frame");
        for _ in 0..PIPES {
            let sent = control.throw(&frame, &[stalled.file().as_fd()]);
            if sent.is_err() {
                break;
            }
        }
        mistakes_are_closed(&mut good);
        let _tls = accepted(&mut agent, port);
        assert!(!reader.is_finished(), "nobody has answered");
        drop(stalled);
        assert!(reader.join().expect("the reader ends").is_err());
    }

    /// A front that such a file keeps can be replaced, with its listeners.
    #[test]
    fn finding_5_a_front_that_a_file_keeps_is_replaced_and_no_connection_is_refused() {
        if sent_out() {
            return;
        }
        let port = free_port();
        let daemon = Daemon::with_config(&format!(
            "[control]\nsocket = 'SOCKET'\n[socket.hostile]\npath = 'DIR/hostile.sock'\n[identities]\n\
             directory = 'PKI/keys'\n[listener.web]\naddress = '127.0.0.1:{port}'\n[[grant]]\nuser = UID\n\
             identities = ['*']\nlisteners = ['web']\n[[grant]]\nsocket = 'hostile'\nidentities = ['*']\n"
        ));
        // Before the file: what is started later would wait for it.
        let mut agent = Agent::start(&daemon, LUA54);
        let front = daemon.front();
        let Some(stalled) = Stalled::mount() else { return };
        let mut control = hostile(&daemon);
        assert!(!pass_as_anything(&mut control, stalled.file().as_fd()).is_empty());
        stalled.expect(FLUSH);

        signal_pid(front, rustix::process::Signal::KILL);
        let refused = |when: &str| tcp(port).err().map(|error| format!("{when}: {error}"));
        assert_eq!(refused("at once"), None);
        let mut control = Control::open(&daemon.socket());
        luassl_tests::until("the front to be replaced", || {
            assert_eq!(refused("meanwhile"), None);
            daemon.log().contains("front `default` is replaced")
        });
        assert_eq!(refused("afterwards"), None);
        // The one that was connected between two fronts is served as well, as is the listener.
        assert!(control.context(unverified()).is_ok());
        agent.run("s = assert(ssl.wrap('server')) assert(s:bind{listener = 'web'})");
        let _tls = accepted(&mut agent, port);
        assert_ne!(daemon.front(), front);
        // Positive control: the kernel keeps the former front all the time.
        assert!(std::path::Path::new(&format!("/proc/{front}")).exists());
        drop(stalled);
        until("the front to be gone", || !std::path::Path::new(&format!("/proc/{front}")).exists());
    }

    /// A message with the file as often as one can have it, over a connection of its own; the front may reset it.
    fn message(path: &Path, file: BorrowedFd<'_>) -> Option<UnixStream> {
        let stream = UnixStream::connect(path).ok()?;
        let _ = send(&stream, b"\0", &[file; 253], SendFlags::DONTWAIT);
        Some(stream)
    }

    /// The most descriptors that the front has open while `attack` goes on, beyond what it had.
    fn growth(front: u32, mut attack: impl FnMut(u32)) -> usize {
        let before = descriptors(front);
        let most = (0..ATTEMPTS).map(|number| {
            attack(number);
            descriptors(front)
        });
        most.max().unwrap_or(0).saturating_sub(before)
    }

    #[test]
    fn finding_5_users_without_a_grant_take_no_descriptor_of_the_front() {
        if sent_out() {
            return;
        }
        let daemon = daemon();
        let mut good = Control::open(&daemon.socket());
        let Some(stalled) = Stalled::mount() else { return };
        // Never closed by a thread of the test's, which would wait.
        let file: &File = Box::leak(Box::new(stalled.file().try_clone().expect("a copy")));
        let mut kept = Vec::new();
        let most = growth(daemon.front(), |number| {
            let path = daemon.socket();
            kept.extend(as_user(STRANGER + number % 4, move || message(&path, file.as_fd())));
        });
        // Sixteen connections of theirs, and what is on its way to being closed.
        assert!(most < 100, "{most} descriptors more");
        mistakes_are_closed(&mut good);
        drop(kept);
    }

    #[test]
    fn finding_5_a_granted_program_has_few_descriptors_that_wait() {
        if sent_out() {
            return;
        }
        let daemon = daemon();
        let mut good = Control::open(&daemon.socket());
        let path = daemon.directory().join("hostile.sock");
        let Some(stalled) = Stalled::mount() else { return };
        let mut kept = Vec::new();
        let most = growth(daemon.front(), |_| kept.extend(message(&path, stalled.file().as_fd())));
        // The connections themselves, sixty-four that wait, and one message that came on top.
        let all = usize::try_from(ATTEMPTS).expect("small") + 64 + 253 + 100;
        assert!(most < all, "{most} descriptors more");
        mistakes_are_closed(&mut good);
        drop(kept);
    }

    #[test]
    fn attack_14_a_daemon_ends_though_a_file_keeps_its_front() {
        if sent_out() {
            return;
        }
        let mut daemon = daemon();
        let front = daemon.front();
        let Some(stalled) = Stalled::mount() else { return };
        let mut control = hostile(&daemon);
        assert!(!pass_as_anything(&mut control, stalled.file().as_fd()).is_empty());
        stalled.expect(FLUSH);
        daemon.signal(rustix::process::Signal::TERM);
        daemon.process().wait();
        // The kernel keeps it until the file's server answers, or is gone.
        assert!(std::path::Path::new(&format!("/proc/{front}")).exists());
        drop(stalled);
        until("the front to be gone", || !std::path::Path::new(&format!("/proc/{front}")).exists());
    }
}
