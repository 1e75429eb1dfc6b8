//! Requests of two owners over real control sockets, on a front without a keeper.

use crate::tests::{rig::block_on, whole};
use crate::{
    activation::activate,
    authorization::{owner::Owner, quota::Kind},
    context, control,
    services::Services,
};
use bytes::BytesMut;
use luassl_keeper_ipc::transport;
use luassl_protocol::{
    Blob, BlobStored, Connect, Connecting, ContextMade, ContextSpec, Dane, DaneSpec, Done, ErrorCode, Export,
    Exported, FRAME_HEADER, Failure, FreeContext, Hello, MakeContext, Mode, Request, Role, TlsaRecord, Token,
    TrustSpec, VERSION, Welcome, decode_reply, take_frame,
};
use luassl_settings::{Grant, Grantee, Limits, Settings, TrustSettings};
use luassl_tls::kit::pki::Authority;
use rustix::net::SendFlags;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use std::{
    net::{TcpListener, TcpStream},
    os::{fd::AsFd, unix::net::UnixListener},
    sync::{Arc, mpsc},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
    task::yield_now,
};

/// The names of two control sockets, so that their clients are two owners.
const NAMES: [&str; 2] = ["greedy", "other"];

/// A front that serves these sockets.
struct Served {
    front: Services,
    directory: TempDir,
}

impl Served {
    /// Starts a front. It must be called within [`block_on`], whose thread is that of the control sockets.
    fn start(limits: Limits) -> Self {
        let front = whole::front();
        let own = TrustSettings { certificates: vec![ByteBuf::from(Authority::root().pem())], crls: vec![] };
        let settings = Settings {
            grants: NAMES.map(grant).into(),
            trusts: [("own".to_owned(), own)].into(),
            limits,
            ..Settings::default()
        };
        let reply = activate(&front, settings, vec![]);
        assert!(reply.faults.is_empty(), "{:?}", reply.faults);
        let directory = tempfile::tempdir().unwrap();
        for name in NAMES {
            let listening = UnixListener::bind(directory.path().join(name)).unwrap();
            tokio::spawn(control::serve(front.clone(), name.into(), listening.into()));
        }
        Self { front, directory }
    }

    /// Returns a control connection that has sent `hello`.
    async fn client(&self, name: &str) -> Client {
        let stream = UnixStream::connect(self.directory.path().join(name)).await.unwrap();
        let mut client = Client { stream, buffer: BytesMut::new(), id: 0 };
        let hello = Hello { version: VERSION, features: vec![], client: "a test".to_owned() };
        client.ask::<Welcome>(&Request::Hello(hello)).await.unwrap();
        client
    }

    /// Returns the number of parsed bytes on an owner's account.
    fn parsed_bytes(&self, name: &str) -> u64 {
        let held = self.front.authority.quotas.held(Kind::ParsedBytes).into_iter();
        held.filter(|(own, _)| *own == owner(name)).map(|(_, bytes)| bytes).sum()
    }

    /// Waits until `jobs` jobs of an owner wait for their turn.
    async fn until_waiting(&self, name: &str, jobs: usize) {
        while self.front.parsing.waiting(&owner(name)) != jobs {
            yield_now().await;
        }
    }
}

fn owner(name: &str) -> Owner {
    Owner { socket: name.into(), uid: rustix::process::getuid().as_raw() }
}

/// Returns a grant to be a client, for all programs that connect to a socket.
fn grant(socket: &str) -> Grant {
    // TLSA records need a grant without required verification.
    Grant { grantee: Grantee::Socket(socket.to_owned()), verify_required: false, ..context::tests::grant() }
}

/// A program's end of a control connection.
struct Client {
    stream: UnixStream,
    buffer: BytesMut,
    id: u64,
}

impl Client {
    async fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        self.send(request).await;
        self.answer().await
    }

    async fn send(&mut self, request: &Request) {
        self.id += 1;
        self.stream.write_all(&request.to_frame(self.id).unwrap()).await.unwrap();
    }

    /// Requests a connection over a TCP socket, and returns the far end of this socket, which sends nothing.
    fn send_connect(&mut self, connect: Connect) -> TcpStream {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        self.id += 1;
        let frame = Request::Connect(connect).to_frame(self.id).unwrap();
        let sent = transport::send(&self.stream, &frame, &[tcp.as_fd()], SendFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
        listening.accept().unwrap().0
    }

    /// Connects. The stream to the front is closed with the answer.
    async fn connect(&mut self, connect: Connect) -> Result<Connecting, Failure> {
        let _peer = self.send_connect(connect);
        self.answer().await
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer, 1 << 20).unwrap() {
                let (id, answer) = decode_reply(&frame).unwrap();
                assert_eq!(id, self.id);
                return answer;
            }
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the front has hung up");
        }
    }

    /// Returns whether no part of an answer has arrived.
    fn has_no_answer(&mut self) -> bool {
        let came = self.stream.try_read_buf(&mut self.buffer);
        came.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) && self.buffer.is_empty()
    }

    async fn context(&mut self, request: &Request) -> Result<u64, Failure> {
        let made: ContextMade = self.ask(request).await?;
        Ok(made.context.unwrap())
    }
}

/// Returns a context with `protocols` application protocols of 250 bytes.
fn described(protocols: usize) -> Request {
    let alpn = (0..protocols).map(|number| format!("{number:0>250}")).collect();
    let trust = TrustSpec { named: vec!["own".to_owned()], ..TrustSpec::default() };
    let spec = ContextSpec { alpn, trust, ..ContextSpec::default() };
    Request::Context(Box::new(MakeContext { spec, again: false }))
}

fn blob(bytes: usize) -> Request {
    Request::Blob(Blob { data: vec![b'-'; bytes] })
}

#[test]
fn finding_6_a_large_description_is_charged_for_as_long_as_its_context_lasts() {
    block_on(async {
        let bound = 256 << 10;
        let served = Served::start(Limits { parsed_bytes_per_owner: bound, ..Limits::default() });
        let (mut greedy, mut other) = (served.client("greedy").await, served.client("other").await);
        let (large, small) = (described(60), described(1));
        let size = (large.to_frame(1).unwrap().len() - FRAME_HEADER) as u64;
        let most = u64::from(bound) / (4 * size);
        assert_eq!(most, 4);
        let mut made = Vec::new();
        let refused = loop {
            match greedy.context(&large).await {
                Ok(context) => made.push(context),
                Err(failure) => break failure,
            }
        };
        assert_eq!(refused.code, ErrorCode::Limit);
        assert!(refused.message.contains("parsed_bytes_per_owner"), "{refused}");
        assert_eq!((made.len() as u64, served.parsed_bytes("greedy")), (most, most * 4 * size));
        // Positive controls: another owner has its own account, and a small context has room on this one.
        other.context(&large).await.unwrap();
        assert_eq!(served.parsed_bytes("other"), 4 * size);
        greedy.context(&small).await.unwrap();
        // Freed bytes can be taken again, and no more than these.
        let before = served.parsed_bytes("greedy");
        let free = Request::FreeContext(FreeContext { context: made[0] });
        greedy.ask::<Done>(&free).await.unwrap();
        assert_eq!(served.parsed_bytes("greedy"), before - 4 * size);
        greedy.context(&large).await.unwrap();
        assert_eq!(greedy.context(&large).await.unwrap_err().code, ErrorCode::Limit);
        // A connection's contexts are dropped with it.
        drop(greedy);
        while served.parsed_bytes("greedy") > 0 {
            yield_now().await;
        }
        assert_eq!(served.parsed_bytes("other"), 4 * size);
    });
}

/// A job of an owner that lasts until the test ends it.
struct Held {
    begun: oneshot::Receiver<()>,
    _release: mpsc::Sender<()>,
}

impl Held {
    fn submit(front: &Services, name: &str) -> Self {
        let (tell, begun) = oneshot::channel();
        let (release, held) = mpsc::channel::<()>();
        let (parsing, owner) = (Arc::clone(&front.parsing), owner(name));
        tokio::spawn(async move {
            let job = move || {
                let _ = tell.send(());
                let _ = held.recv();
            };
            parsing.run(&owner, &Limits::default(), job).await
        });
        Self { begun, _release: release }
    }

    async fn has_begun(&mut self) {
        (&mut self.begun).await.unwrap();
    }
}

#[test]
fn finding_4_a_large_request_waits_for_its_owners_turn_and_nobody_else_does() {
    block_on(async {
        let served = Served::start(Limits::default());
        let (mut greedy, mut other) = (served.client("greedy").await, served.client("other").await);
        // Positive control: if the turn is free, the request is answered.
        greedy.ask::<BlobStored>(&blob(200_000)).await.unwrap();
        let mut first = Held::submit(&served.front, "greedy");
        first.has_begun().await;
        greedy.send(&blob(300_000)).await;
        // The frame has arrived completely, and is not decoded.
        served.until_waiting("greedy", 1).await;
        other.ask::<BlobStored>(&blob(100)).await.unwrap();
        other.ask::<BlobStored>(&blob(300_000)).await.unwrap();
        assert!(greedy.has_no_answer());
        let mut second = Held::submit(&served.front, "greedy");
        served.until_waiting("greedy", 2).await;
        drop(first);
        second.has_begun().await;
        // The frame is decoded, and its bytes are not hashed.
        served.until_waiting("greedy", 1).await;
        other.ask::<BlobStored>(&blob(200)).await.unwrap();
        assert!(greedy.has_no_answer());
        drop(second);
        greedy.answer::<BlobStored>().await.unwrap();
        // A small request waits for no turn, not even that of its owner.
        let mut third = Held::submit(&served.front, "greedy");
        third.has_begun().await;
        greedy.ask::<BlobStored>(&blob(100)).await.unwrap();
    });
}

/// Returns a context whose clients may or may not supply TLSA records.
fn verifying(dane: Option<DaneSpec>) -> Request {
    let trust = TrustSpec { named: vec!["own".to_owned()], ..TrustSpec::default() };
    Request::Context(Box::new(MakeContext {
        spec: ContextSpec { dane, trust, ..ContextSpec::default() },
        again: false,
    }))
}

/// Returns a request for a client's connection.
fn plain(context: u64, mode: Mode) -> Connect {
    let host = Some("www.example.org".to_owned());
    Connect { host, ..Connect::new(context, Role::Client, mode) }
}

/// Returns a request for a connection that supplies a whole certificate in a TLSA record.
fn by_records(context: u64, mode: Mode) -> Connect {
    let data = ByteBuf::from(Authority::root().certificate.to_der().unwrap());
    let records = vec![TlsaRecord { usage: 2, selector: 0, matching: 0, data }];
    let dane = Some(Dane { host: "www.example.org".to_owned(), records });
    Connect { dane, ..plain(context, mode) }
}

#[test]
fn finding_4_tlsa_records_wait_for_their_owners_turn_and_nobody_else_does() {
    block_on(async {
        let served = Served::start(Limits::default());
        let (mut greedy, mut second) = (served.client("greedy").await, served.client("greedy").await);
        let mut other = served.client("other").await;
        let allowed = verifying(Some(DaneSpec::default()));
        let context = greedy.context(&allowed).await.unwrap();
        let (seconds, others) =
            (second.context(&allowed).await.unwrap(), other.context(&allowed).await.unwrap());
        // The records are those of the request. A context without records refuses them.
        let without = greedy.context(&verifying(None)).await.unwrap();
        let refused = greedy.connect(by_records(without, Mode::Stream)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Invalid, "{refused}");
        for mode in [Mode::Stream, Mode::LockStep] {
            // Positive control: if the turn is free, the request is answered.
            greedy.connect(by_records(context, mode)).await.unwrap();
            second.connect(plain(seconds, mode)).await.unwrap();
            let mut held = Held::submit(&served.front, "greedy");
            held.has_begun().await;
            let _peer = greedy.send_connect(by_records(context, mode));
            // The request is small, and decoded. Only its records wait.
            served.until_waiting("greedy", 1).await;
            other.ask::<BlobStored>(&blob(100)).await.unwrap();
            other.connect(by_records(others, mode)).await.unwrap();
            // A request without records waits for no turn, not even that of its owner.
            second.connect(plain(seconds, mode)).await.unwrap();
            assert!(greedy.has_no_answer());
            drop(held);
            greedy.answer::<Connecting>().await.unwrap();
        }
    });
}

#[test]
fn finding_4_what_keying_material_is_exported_from_is_bounded() {
    block_on(async {
        let mut client = Served::start(Limits::default()).client("other").await;
        // Positive control: for a request within the limit the connection is looked up, but does not exist.
        for (label, context, within) in
            [(4_000, Some(96), true), (4_000, Some(97), false), (4_096, None, true), (4_097, None, false)]
        {
            let context = context.map(|bytes| ByteBuf::from(vec![0; bytes]));
            let export = Export { token: Token::new([0; 16]), label: "l".repeat(label), length: 32, context };
            let refused = client.ask::<Exported>(&Request::Export(export)).await.unwrap_err();
            assert_eq!(refused.message.contains("no such connection"), within, "{refused}");
            assert_eq!(refused.message.contains("label and context"), !within, "{refused}");
        }
    });
}
