//! PROTOCOL.md and the codec say the same: every vector of the page is decoded and encoded again, every message has
//! one, and the page's tables are the code's.
#![allow(clippy::unwrap_used)]

mod notation;

use luassl_protocol::*;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../PROTOCOL.md");

/// One `vector` block of the page.
struct Vector {
    /// `request`, `answer`, `failure`, `result`, `delivery`, `lock_step_request` or `lock_step_answer`.
    kind: String,
    /// The operation, or what the message tells; a second word where there is more than one of these.
    name: String,
    notation: String,
    bytes: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let blocks = PAGE.split("```vector ").skip(1);
    blocks.map(|block| parse(block.split("```").next().unwrap())).collect()
}

fn parse(block: &str) -> Vector {
    let (title, rest) = block.split_once('\n').unwrap();
    let (kind, name) = title.split_once(' ').unwrap();
    let (notation, hex) = rest.split_once("\n=\n").unwrap();
    let bytes = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    Vector { kind: kind.into(), name: name.into(), notation: notation.into(), bytes }
}

impl Vector {
    fn operation(&self) -> &str {
        self.name.split(' ').next().unwrap()
    }

    /// The body: a delivery has no length, everything else is a frame.
    fn body(&self) -> &[u8] {
        if self.kind == "delivery" {
            return &self.bytes;
        }
        let (length, body) = self.bytes.split_first_chunk::<FRAME_HEADER>().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, body.len(), "{} {}", self.kind, self.name);
        body
    }

    /// The bytes that the codec makes of what it has read from the vector.
    fn encoded_again(&self) -> Vec<u8> {
        match self.kind.as_str() {
            "request" => self.request_again(),
            "answer" => self.answer_again(),
            "failure" => answer_again::<Done>(self.body()),
            "result" => to_frame(&from_body::<HandshakeResult>(self.body()).unwrap()).unwrap(),
            "delivery" => to_body(&from_body::<Delivery>(self.body()).unwrap()).unwrap(),
            "lock_step_request" => self.lock_step_request_again(),
            "lock_step_answer" => to_frame(&from_body::<LockStepAnswer>(self.body()).unwrap()).unwrap(),
            other => panic!("unknown kind of vector {other}"),
        }
    }

    fn request_again(&self) -> Vec<u8> {
        let (id, request) = Request::decode(self.body()).unwrap();
        assert_eq!(request.operation(), self.name);
        assert!(!matches!(request, Request::Unknown(_)), "{}", self.name);
        request.to_frame(id).unwrap()
    }

    fn lock_step_request_again(&self) -> Vec<u8> {
        let request = LockStepRequest::decode(self.body()).unwrap();
        assert_eq!(request.operation(), self.name);
        assert!(!matches!(request, LockStepRequest::Unknown(_)), "{}", self.name);
        request.to_frame().unwrap()
    }

    fn answer_again(&self) -> Vec<u8> {
        let again = match self.operation() {
            "hello" => answer_again::<Welcome>,
            "blob" => answer_again::<BlobStored>,
            "context" => answer_again::<ContextMade>,
            "connect" => answer_again::<Connecting>,
            "bind" => answer_again::<Bound>,
            "status" => answer_again::<Status>,
            "info" => answer_again::<Info>,
            "peer_certificate" => answer_again::<PeerCertificate>,
            "peer_matches" => answer_again::<Matched>,
            "export" => answer_again::<Exported>,
            "certificate" => answer_again::<CertificateFacts>,
            "check_issued" => answer_again::<Issued>,
            "describe" => answer_again::<Description>,
            "free_context" | "renegotiate" | "close" | "set_option" => answer_again::<Done>,
            other => panic!("an answer to {other}?"),
        };
        again(self.body())
    }
}

fn answer_again<T: Serialize + DeserializeOwned>(body: &[u8]) -> Vec<u8> {
    let (id, outcome) = decode_reply::<T>(body).unwrap();
    reply_frame(id, &outcome).unwrap()
}

fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn every_vector_is_what_its_notation_says() {
    for vector in vectors() {
        let written = without_spaces(&vector.notation);
        assert_eq!(written, without_spaces(&notation::notation(vector.body())), "{}", vector.name);
    }
}

#[test]
fn every_vector_is_decoded_and_encoded_to_the_same_bytes() {
    for vector in vectors() {
        assert_eq!(vector.encoded_again(), vector.bytes, "{} {}", vector.kind, vector.name);
    }
}

/// Every operation. A new one does not compile here until it has a line, and then needs a vector.
fn operations() -> BTreeSet<&'static str> {
    fn name(request: &Request) -> &'static str {
        match request {
            Request::Hello(_) => "hello",
            Request::Blob(_) => "blob",
            Request::Context(_) => "context",
            Request::FreeContext(_) => "free_context",
            Request::Connect(_) => "connect",
            Request::Bind(_) => "bind",
            Request::Status(_) => "status",
            Request::Info(_) => "info",
            Request::PeerCertificate(_) => "peer_certificate",
            Request::PeerMatches(_) => "peer_matches",
            Request::Export(_) => "export",
            Request::SetOption(_) => "set_option",
            Request::Renegotiate(_) => "renegotiate",
            Request::Close(_) => "close",
            Request::Certificate(_) => "certificate",
            Request::CheckIssued(_) => "check_issued",
            Request::Describe(_) => "describe",
            Request::Unknown(_) => "unknown",
        }
    }
    let decoded = vectors_of("request").map(|vector| name(&Request::decode(vector.body()).unwrap().1));
    let all = [
        "hello",
        "blob",
        "context",
        "free_context",
        "connect",
        "bind",
        "status",
        "info",
        "peer_certificate",
        "peer_matches",
        "export",
        "set_option",
        "renegotiate",
        "close",
        "certificate",
        "check_issued",
        "describe",
    ];
    assert_eq!(decoded.collect::<BTreeSet<_>>(), BTreeSet::from(all));
    BTreeSet::from(all)
}

fn vectors_of(kind: &'static str) -> impl Iterator<Item = Vector> {
    vectors().into_iter().filter(move |vector| vector.kind == kind)
}

fn names_of(kind: &'static str) -> BTreeSet<String> {
    vectors_of(kind).map(|vector| vector.operation().to_owned()).collect()
}

#[test]
fn every_operation_has_a_request_and_an_answer() {
    let operations: BTreeSet<String> = operations().into_iter().map(str::to_owned).collect();
    assert_eq!(names_of("request"), operations);
    assert_eq!(names_of("answer"), operations);
}

#[test]
fn every_lock_step_operation_and_state_has_a_vector() {
    let operations =
        ["handshake", "read", "write", "shutdown", "info", "facts", "close", "client_hello", "psk"];
    assert_eq!(names_of("lock_step_request"), operations.map(str::to_owned).into());
    let states: BTreeSet<String> = vectors_of("lock_step_answer")
        .map(|vector| match from_body::<LockStepAnswer>(vector.body()).unwrap().state {
            LockStepState::Ok => "ok".into(),
            LockStepState::WantRead => "want_read".into(),
            LockStepState::WantWrite => "want_write".into(),
            LockStepState::NeedClientHello => "need_client_hello".into(),
            LockStepState::NeedPsk => "need_psk".into(),
            LockStepState::Error => "error".into(),
        })
        .collect();
    assert_eq!(states.len(), 6);
}

#[test]
fn results_and_deliveries_have_both_outcomes() {
    let both = BTreeSet::from(["established".to_owned(), "failed".to_owned()]);
    assert_eq!(names_of("result"), both);
    assert_eq!(names_of("delivery"), both);
    assert!(names_of("failure").len() > 1);
}

/// The cells of each table row of the page whose first cell is in backquotes.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    PAGE.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect())
}

fn code_of(word: &str) -> ErrorCode {
    let mut body = b"\x82\xa4code".to_vec();
    body.push(0xa0 | u8::try_from(word.len()).unwrap());
    body.extend_from_slice(word.as_bytes());
    body.extend_from_slice(b"\xa7message\xa0");
    from_body::<Failure>(&body).unwrap().code
}

#[test]
fn the_table_of_errors_is_the_codes() {
    let section = PAGE.split("## 7. Errors").nth(1).unwrap().split("## 8.").next().unwrap();
    let mut seen = Vec::new();
    for row in rows().filter(|row| section.contains(&format!("| `{}` | {} |", row[0], row[1]))) {
        let code = code_of(row[0]);
        assert_eq!(code.lua() as i32, row[1].parse::<i32>().unwrap(), "{}", row[0]);
        assert!(row[0] == "other" || code != ErrorCode::Other, "{} is no code", row[0]);
        seen.push(format!("{code:?}"));
    }
    // A new code does not compile here until it is counted, and then needs a row.
    let count = match ErrorCode::Other {
        ErrorCode::Closed
        | ErrorCode::Tls
        | ErrorCode::Timeout
        | ErrorCode::Cut
        | ErrorCode::Unavailable
        | ErrorCode::Verification
        | ErrorCode::Refused
        | ErrorCode::Limit
        | ErrorCode::InUse
        | ErrorCode::Invalid
        | ErrorCode::Descriptor
        | ErrorCode::Malformed
        | ErrorCode::TooLarge
        | ErrorCode::Version
        | ErrorCode::UnknownOperation
        | ErrorCode::Internal
        | ErrorCode::Other => 17,
    };
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), count);
}

#[test]
fn the_tables_of_constants_are_the_codes() {
    let section = PAGE.split("## 8. Constants").nth(1).unwrap();
    let written: Vec<(String, u64)> = rows()
        .filter(|row| row.len() == 2 && section.contains(&format!("| `{}` | {} |", row[0], row[1])))
        .map(|row| (row[0].to_owned(), row[1].parse().unwrap()))
        .collect();
    let known = VERIFY.iter().chain(OPTIONS).map(|constant| (constant.name.to_owned(), constant.value));
    assert_eq!(written, known.collect::<Vec<_>>());
}

#[test]
fn the_words_of_a_holder_are_the_codes() {
    for (byte, word) in [(holder::ASK, "ask"), (holder::ASK_REPORT, "report"), (holder::TAKEN, "taken")] {
        let row = format!("| `{byte:02x}` | `{}` | {word}:", char::from(byte));
        assert!(PAGE.contains(&row), "{row}");
    }
}

#[test]
fn the_features_and_bounds_are_the_codes() {
    for word in feature::ALL {
        assert!(PAGE.contains(&format!("| `{word}` | both |")), "{word}");
    }
    let bounds = [
        format!("from {MIN_LOCK_STEP_READ} (one record) to {MAX_LOCK_STEP_DATA}"),
        format!("({MAX_LOCK_STEP_FRAME} bytes)"),
        format!("by {} MiB on a control connection", MAX_FRAME >> 20),
        format!("by {} KiB for the one frame of a stream", MAX_RESULT >> 10),
        format!("bounded by {MAX_DEPTH} levels"),
        format!("A name has at most {MAX_PSK_IDENTITY} bytes and no zero byte, a key 1 to {MAX_PSK} bytes"),
        format!("there are at most {MAX_PSK_KEYS} keys"),
        format!("at most {MAX_TLSA} records, of at most {MAX_TLSA_DATA} bytes each"),
        format!("at most {MAX_LIST} entries, `identities` and `sni` {MAX_NAMES}; texts at most {MAX_TEXT}"),
    ];
    let page = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    for bound in bounds {
        assert!(page.contains(&bound), "{bound}");
    }
}
