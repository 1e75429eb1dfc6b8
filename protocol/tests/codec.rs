//! Any bytes at all, and any message: the codec never panics, never believes a length, and reads back what it wrote.
#![allow(clippy::unwrap_used)]

use bytes::BytesMut;
use luassl_protocol::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use serde_bytes::{ByteArray, ByteBuf, Bytes};

fn text() -> impl Strategy<Value = String> {
    "[ -~äß日]{0,40}"
}

/// A feature has at most 64 bytes.
fn feature() -> impl Strategy<Value = String> {
    "[ -~äß日]{0,21}"
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(ByteArray::new)
}

fn token() -> impl Strategy<Value = Token> {
    any::<[u8; 16]>().prop_map(ByteArray::new)
}

fn buffer() -> impl Strategy<Value = ByteBuf> {
    vec(any::<u8>(), 0..300).prop_map(ByteBuf::from)
}

fn reason() -> impl Strategy<Value = FailureReason> {
    prop_oneof![
        Just(FailureReason::Alert),
        Just(FailureReason::NothingInCommon),
        Just(FailureReason::Pem),
        Just(FailureReason::Contexts)
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    let code = prop_oneof![Just(ErrorCode::Tls), Just(ErrorCode::Cut), Just(ErrorCode::Refused)];
    (code, text(), of(reason())).prop_map(|(code, message, reason)| Failure { code, message, reason })
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::Tls12), Just(ProtocolVersion::Tls13)]
}

fn dh() -> impl Strategy<Value = DhSpec> {
    prop_oneof![
        Just(DhSpec::Automatic),
        text().prop_map(DhSpec::Named),
        digest().prop_map(DhSpec::Parameters)
    ]
}

prop_compose! {
    fn trust()(
        system in any::<bool>(),
        named in vec(text(), 0..3),
        certificates in vec(digest(), 0..3),
        crls in vec(digest(), 0..3),
        trust_none in any::<bool>(),
    ) -> TrustSpec {
        TrustSpec { system, named, certificates, crls, trust_none }
    }
}

prop_compose! {
    fn psk()(
        hint in of(buffer()),
        keys in vec((vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..40)), 0..3),
        ask in any::<bool>(),
    ) -> PskSpec {
        let key = |(identity, key): (Vec<u8>, Vec<u8>)| PskKey { identity: identity.into(), key: Secret::from(&key[..]) };
        PskSpec { hint: hint.filter(|hint| hint.len() <= MAX_PSK_IDENTITY), keys: keys.into_iter().map(key).collect(), ask }
    }
}

prop_compose! {
    fn dane()(
        host in text(),
        records in vec((any::<u8>(), any::<u8>(), any::<u8>(), buffer()), 0..3),
    ) -> Dane {
        let record = |(usage, selector, matching, data)| TlsaRecord { usage, selector, matching, data };
        Dane { host, records: records.into_iter().map(record).collect() }
    }
}

prop_compose! {
    fn spec()(
        (identity, identities, sni) in
            (of(text()), vec(text(), 0..20), vec((text(), text()), 0..20)),
        (chain, chain_or_trust, trust) in (of(digest()), of(digest()), trust()),
        (verify, depth, options) in (of(any::<u64>()), of(any::<u32>()), of(any::<u64>())),
        (ciphers, ciphersuites, groups) in (of(text()), of(text()), of(text())),
        (minimum_protocol, maximum_protocol, alpn, dh) in
            (of(version()), of(version()), vec(text(), 0..4), of(dh())),
        (sni_strict, crl_check_chain, directory, no_resumption) in
            (any::<bool>(), any::<bool>(), of(text()), any::<bool>()),
        (additional_identities, verify_continue, ignore_purpose, crl_check, alpn_optional, client_hello) in
            (vec((text(), of(digest())), 0..3), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        newest in (of(psk()), of(any::<bool>()), any::<bool>(), any::<bool>()),
    ) -> ContextSpec {
        let (psk, dane, staple, key_log) = newest;
        let additional_identities = additional_identities.into_iter().map(|(identity, chain)| AdditionalIdentity { identity, chain }).collect();
        let sni = sni.into_iter().map(|(name, identity)| SniEntry { name, identity }).collect();
        ContextSpec {
            identity, directory, identities, sni, sni_strict, chain, chain_or_trust, trust, verify, depth, crl_check_chain,
            options, ciphers, ciphersuites, groups, minimum_protocol, maximum_protocol, alpn, dh,
            no_resumption, additional_identities, verify_continue, ignore_purpose, crl_check, alpn_optional, client_hello, psk,
            dane: dane.map(|no_ee_namechecks| DaneSpec { no_ee_namechecks }), staple, key_log,
        }
    }
}

prop_compose! {
    fn connect()(
        context in any::<u64>(),
        role in prop_oneof![Just(Role::Server), Just(Role::Client)],
        mode in prop_oneof![Just(Mode::Stream), Just(Mode::LockStep)],
        host in of(text()),
        sni in of(text()),
        dane in of(dane()),
        resume in any::<bool>(),
    ) -> Connect {
        Connect { context, role, mode, host, sni, dane, resume }
    }
}

fn token_request() -> impl Strategy<Value = Request> {
    (token(), 0..5).prop_map(|(token, which)| match which {
        0 => Request::Status(ConnectionRef { token }),
        1 => Request::Info(ConnectionRef { token }),
        2 => Request::PeerCertificate(ConnectionRef { token }),
        3 => Request::Renegotiate(ConnectionRef { token }),
        _ => Request::Close(ConnectionRef { token }),
    })
}

fn request() -> impl Strategy<Value = Request> {
    let option = prop_oneof![Just(SocketOption::NoDelay), Just(SocketOption::KeepAlive)];
    prop_oneof![
        (any::<u32>(), vec(feature(), 0..4), text())
            .prop_map(|(version, features, client)| Request::Hello(Hello { version, features, client })),
        buffer().prop_map(|data| Request::Blob(Blob { data: data.into_vec() })),
        (spec(), any::<bool>())
            .prop_map(|(spec, again)| Request::Context(Box::new(MakeContext { spec, again }))),
        any::<u64>().prop_map(|context| Request::FreeContext(FreeContext { context })),
        connect().prop_map(Request::Connect),
        (any::<u64>(), of(text())).prop_map(|(context, listener)| Request::Bind(Bind { context, listener })),
        token_request(),
        (token(), text()).prop_map(|(token, host)| Request::PeerMatches(PeerMatches { token, host })),
        (token(), text(), any::<u32>(), of(buffer())).prop_map(|(token, label, length, context)| {
            Request::Export(Export { token, label, length, context })
        }),
        (token(), option, any::<bool>()).prop_map(|(token, option, on)| Request::SetOption(SetOption {
            token,
            option,
            on
        })),
        "x_[a-z]{0,9}".prop_map(Request::Unknown),
    ]
}

prop_compose! {
    fn info()(
        (protocol, cipher, bits, group) in (text(), text(), any::<u32>(), of(text())),
        (alpn, sni, verify_code, verify_text) in (of(text()), of(text()), any::<i32>(), text()),
        (reused, peer_certificate) in any::<(bool, bool)>(),
        (peer, local) in (text(), text()),
    ) -> Info {
        Info {
            protocol, cipher, bits, group, reused, alpn, sni, verify_code, verify_text, peer_certificate, peer, local,
        }
    }
}

prop_compose! {
    fn result()(error in of(failure()), info in of(info())) -> HandshakeResult {
        HandshakeResult { error, info }
    }
}

fn state() -> impl Strategy<Value = LockStepState> {
    prop_oneof![
        Just(LockStepState::Ok),
        Just(LockStepState::WantRead),
        Just(LockStepState::WantWrite),
        Just(LockStepState::NeedClientHello),
        Just(LockStepState::NeedPsk),
        Just(LockStepState::Error),
    ]
}

/// The body of the one frame in `frame`.
fn body(frame: &[u8]) -> Vec<u8> {
    let mut buffer = BytesMut::from(frame);
    let body = take_frame(&mut buffer, MAX_FRAME).unwrap().unwrap();
    assert!(buffer.is_empty());
    body.to_vec()
}

fn decode_anything(bytes: &[u8]) {
    let _ = Request::decode(bytes);
    let _ = decode_reply::<Welcome>(bytes);
    let _ = decode_reply::<PeerCertificate>(bytes);
    let _ = decode_reply::<Done>(bytes);
    let _ = reply_id(bytes);
    let _ = from_body::<HandshakeResult>(bytes);
    let _ = from_body::<Delivery>(bytes);
    let _ = LockStepRequest::decode(bytes);
    let _ = from_body::<LockStepAnswer>(bytes);
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_none_and_never_a_panic(bytes in vec(any::<u8>(), 0..400), limit in 0usize..300) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(body)) = take_frame(&mut buffer, limit) {
            prop_assert!(body.len() <= limit);
            decode_anything(&body);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error_and_never_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        decode_anything(&bytes);
    }

    #[test]
    fn a_damaged_message_never_panics(
        request in request(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()
    ) {
        let mut bytes = body(&request.to_frame(1).unwrap());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_anything(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        decode_anything(&bytes);
    }

    #[test]
    fn a_request_is_read_back(id in any::<u64>(), request in request()) {
        let (read_id, read) = Request::decode(&body(&request.to_frame(id).unwrap())).unwrap();
        prop_assert_eq!((read_id, read), (id, request));
    }

    #[test]
    fn an_answer_is_read_back(id in any::<u64>(), outcome in prop_oneof![info().prop_map(Ok), failure().prop_map(Err)]) {
        let bytes = body(&reply_frame(id, &outcome).unwrap());
        prop_assert_eq!(reply_id(&bytes).unwrap(), id);
        prop_assert_eq!(decode_reply::<Info>(&bytes).unwrap(), (id, outcome));
    }

    #[test]
    fn a_handshakes_result_and_a_delivery_are_read_back(token in token(), result in result()) {
        prop_assert_eq!(&from_body::<HandshakeResult>(&to_body(&result).unwrap()).unwrap(), &result);
        let delivery = Delivery { token, result };
        prop_assert_eq!(from_body::<Delivery>(&to_body(&delivery).unwrap()).unwrap(), delivery);
    }

    #[test]
    fn a_lock_step_question_is_read_back(max in any::<u32>(), data in vec(any::<u8>(), 0..2000), which in 0..10, alpn in of(text())) {
        let request = match which {
            0 => LockStepRequest::Handshake,
            1 => LockStepRequest::Read { max },
            2 => LockStepRequest::Write { data: &data },
            3 => LockStepRequest::Shutdown,
            4 => LockStepRequest::Info,
            5 => LockStepRequest::Close,
            6 => LockStepRequest::ClientHello { context: Some(u64::from(max)), alpn: alpn.as_deref(), refuse: max % 2 == 0 },
            7 => LockStepRequest::Facts,
            8 => LockStepRequest::Psk { identity: Some(&data), key: alpn.as_deref().map(str::as_bytes) },
            _ => LockStepRequest::Unknown("x"),
        };
        let bytes = body(&request.to_frame().unwrap());
        prop_assert_eq!(LockStepRequest::decode(&bytes).unwrap(), request);
    }

    #[test]
    fn a_lock_step_answer_is_read_back(
        state in state(), pending in any::<bool>(), data in of(buffer()), taken in of(any::<u32>()),
        complete in of(any::<bool>()), info in of(info()), error in of(failure()), reason in of(text()), hello in of((of(text()), vec(text(), 0..3)))
    ) {
        let client_hello = hello.map(|(sni, alpn)| ClientHello { sni, alpn });
        let psk = data.clone().map(|identity| PskQuestion { identity: Some(identity), max_key: 7, ..PskQuestion::default() });
        let data = data.as_deref().map(|data| Bytes::new(data));
        let answer = LockStepAnswer { state, pending, data, taken, complete, info, client_hello, psk, facts: None, error, reason };
        let bytes = to_body(&answer).unwrap();
        prop_assert_eq!(from_body::<LockStepAnswer>(&bytes).unwrap(), answer);
    }

    #[test]
    fn frames_are_found_however_the_bytes_arrive(requests in vec(request(), 1..4), step in 1usize..50) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| request.to_frame(9).unwrap()).collect();
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for part in bytes.chunks(step) {
            buffer.extend_from_slice(part);
            while let Some(body) = take_frame(&mut buffer, MAX_FRAME).unwrap() {
                found.push(Request::decode(&body).unwrap().1);
            }
        }
        prop_assert_eq!(found, requests);
    }
}

#[test]
fn a_frame_of_four_gib_is_refused_at_its_header() {
    let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
    let error = take_frame(&mut buffer, MAX_FRAME).unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { length: 0xffff_ffff, limit: MAX_FRAME }));
    assert_eq!(Failure::from(&error).code, ErrorCode::TooLarge);
}

#[test]
fn a_frame_of_the_limit_is_taken_and_one_byte_more_is_not() {
    let mut buffer = BytesMut::from(&[0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 4][..]);
    assert_eq!(take_frame(&mut buffer, 3).unwrap().unwrap(), [1, 2, 3][..]);
    assert!(take_frame(&mut buffer, 3).is_err());
}

/// A map of `id` 1, `op` free_context, `context` 5, and one more field.
fn with_extra(value: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x84\xa2id\x01\xa2op\xacfree_context\xa7context\x05\xa5extra".to_vec();
    bytes.extend_from_slice(value);
    bytes
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    let values: &[&[u8]] =
        &[b"\xc0", b"\x93\x01\xa1a\xc4\x01\xff", b"\x81\xa1a\x80", b"\xcb\0\0\0\0\0\0\0\0", b"\xd4\x01\x02"];
    for value in values {
        let (id, request) = Request::decode(&with_extra(value)).unwrap();
        assert_eq!((id, request), (1, Request::FreeContext(FreeContext { context: 5 })));
    }
}

#[test]
fn an_unknown_operation_is_typed_and_keeps_its_id() {
    let (id, request) = Request::decode(b"\x82\xa2id\x07\xa2op\xa4warp").unwrap();
    assert_eq!((id, request), (7, Request::Unknown("warp".into())));
    assert_eq!(LockStepRequest::decode(b"\x81\xa2op\xa4warp").unwrap(), LockStepRequest::Unknown("warp"));
}

#[test]
fn an_unknown_error_code_is_read_as_other() {
    let body = b"\x82\xa2id\x07\xa5error\x82\xa4code\xa4warp\xa7message\xa1x";
    let (id, outcome) = decode_reply::<Done>(body).unwrap();
    assert_eq!((id, outcome), (7, Err(Failure::new(ErrorCode::Other, "x"))));
}

#[test]
fn a_bad_request_keeps_its_id_where_that_was_readable() {
    let bad = Request::decode(b"\x82\xa2id\x07\xa2op\xacfree_context").unwrap_err();
    assert_eq!(bad.id, Some(7));
    assert_eq!(Failure::from(&bad.source).code, ErrorCode::Malformed);
    assert_eq!(Request::decode(b"\x81\xa2op\xa5hello").unwrap_err().id, None);
}

#[test]
fn a_body_is_one_map_and_nothing_after_it() {
    assert!(matches!(from_body::<Done>(b""), Err(DecodeError::NoMap)));
    assert!(matches!(from_body::<FreeContext>(b"\x91\x05"), Err(DecodeError::NoMap)));
    assert!(matches!(from_body::<Done>(b"\x80\xc0"), Err(DecodeError::Trailing)));
    assert!(matches!(from_body::<Done>(b"\x80\x91"), Err(DecodeError::Trailing)));
    assert_eq!(from_body::<Done>(b"\x80").unwrap(), Done {});
}

#[test]
fn a_field_that_comes_twice_is_refused() {
    assert!(from_body::<FreeContext>(b"\x82\xa7context\x05\xa7context\x06").is_err());
}

#[test]
fn deep_nesting_is_refused_and_costs_no_stack() {
    // A stack of 256 KiB would not survive one level for each of the million bytes.
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(|| {
        for marker in [0x91, 0x81] {
            assert!(Request::decode(&with_extra(&vec![marker; 1 << 20])).is_err());
        }
        let mut allowed = vec![0x91; MAX_DEPTH - 2];
        allowed.push(0x01);
        assert!(Request::decode(&with_extra(&allowed)).is_ok());
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn a_lock_step_question_without_its_field_is_refused() {
    let error = LockStepRequest::decode(b"\x81\xa2op\xa4read").unwrap_err();
    assert_eq!(error.to_string(), "malformed message: read needs the field max");
}

#[test]
fn lists_and_texts_of_a_context_are_bounded() {
    let check = |spec: ContextSpec| {
        let frame = Request::Context(Box::new(MakeContext { spec, again: false })).to_frame(3).unwrap();
        Request::decode(&body(&frame)).map_err(|bad| bad.source.to_string()).map(|_| ())
    };
    let alpn = vec!["h2".to_owned(); MAX_LIST + 1];
    assert_eq!(check(ContextSpec { alpn: alpn[1..].to_vec(), ..Default::default() }), Ok(()));
    assert_eq!(
        check(ContextSpec { alpn, ..Default::default() }),
        Err("alpn is above its limit of 64 entries".to_owned())
    );
    let ciphers = Some("x".repeat(MAX_TEXT + 1));
    assert_eq!(
        check(ContextSpec { ciphers, ..Default::default() }),
        Err("ciphers is above its limit of 4096 bytes".to_owned())
    );
}

#[test]
fn keys_that_peers_share_are_bounded_and_never_shown() {
    let key = |identity: usize, key: usize| PskKey {
        identity: vec![b'i'; identity].into(),
        key: Secret::from(&vec![b'k'; key][..]),
    };
    let check = |keys: Vec<PskKey>| {
        let psk = Some(PskSpec { keys, ..PskSpec::default() });
        ContextSpec { psk, ..Default::default() }.check_bounds().map_err(|error| error.to_string())
    };
    assert_eq!(check(vec![key(MAX_PSK_IDENTITY, MAX_PSK); MAX_PSK_KEYS]), Ok(()));
    assert!(check(vec![key(1, 1); MAX_PSK_KEYS + 1]).unwrap_err().contains("psk.keys"));
    assert!(check(vec![key(MAX_PSK_IDENTITY + 1, 1)]).unwrap_err().contains("psk.keys.identity"));
    assert!(check(vec![key(1, MAX_PSK + 1)]).unwrap_err().contains("psk.keys.key"));
    assert!(!format!("{:?}", key(1, 40)).contains("107"), "the key is shown");
}

#[test]
fn tlsa_records_are_bounded() {
    let check = |records: usize, data: usize| {
        let record = TlsaRecord { data: vec![0; data].into(), ..TlsaRecord::default() };
        Dane { host: "a".into(), records: vec![record; records] }
            .check_bounds()
            .map_err(|error| error.to_string())
    };
    assert_eq!(check(MAX_TLSA, MAX_TLSA_DATA), Ok(()));
    assert!(check(MAX_TLSA + 1, 1).unwrap_err().contains("dane.records"));
    assert!(check(1, MAX_TLSA_DATA + 1).unwrap_err().contains("dane.records.data"));
}

#[test]
fn a_blob_with_a_private_key_is_refused() {
    let data = b"-----BEGIN EC PRIVATE KEY-----\n".to_vec();
    let frame = Request::Blob(Blob { data }).to_frame(3).unwrap();
    let bad = Request::decode(&body(&frame)).unwrap_err();
    assert_eq!(bad.id, Some(3));
    assert_eq!(Failure::from(&bad.source).code, ErrorCode::Invalid);
}

#[test]
fn an_unknown_reason_is_other_and_a_failure_without_one_has_none() {
    let failure = |reason: &str| -> Failure {
        let known = Failure::new(ErrorCode::Tls, "failed").because(FailureReason::Alert);
        let body = luassl_protocol::to_body(&known).unwrap();
        let at = body.windows(5).position(|bytes| bytes == b"alert").unwrap();
        let body = [&body[..at], reason.as_bytes(), &body[at + 5..]].concat();
        from_body(&body).unwrap()
    };
    // Positive control: a reason that is known stays what it is.
    assert_eq!(failure("alert").reason, Some(FailureReason::Alert));
    assert_eq!(failure("later").reason, Some(FailureReason::Other));
    let without = luassl_protocol::to_body(&Failure::new(ErrorCode::Tls, "failed")).unwrap();
    assert_eq!(from_body::<Failure>(&without).unwrap().reason, None);
}
