//! What a message announces is not what it gets: decoding allocates by what has arrived.
#![allow(clippy::unwrap_used)]

use luassl_protocol::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes of the largest single allocation.
struct Largest;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each call is the system allocator's own, with the same arguments.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from System with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

/// Bodies whose last marker promises 4 GiB of entries or bytes that never come.
fn promises() -> Vec<Vec<u8>> {
    let fields: &[(&[u8], &[u8])] = &[
        (b"\xa5hello", b"\xa8features"),
        (b"\xa4blob", b"\xa4data"),
        (b"\xa7context", b"\xa4spec\x81\xaaidentities"),
        (b"\xa7context", b"\xa4spec\x81\xa3sni"),
        (b"\xa7context", b"\xa4spec\x81\xa5trust\x81\xaccertificates"),
        (b"\xa6export", b"\xa7context"),
        (b"\xa6status", b"\xa5token"),
        (b"\xa4warp", b"\xa5extra"),
    ];
    let markers: &[&[u8]] =
        &[b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"];
    let body = |(op, field): &(&[u8], &[u8]), marker: &&[u8]| {
        [b"\x83\xa2id\x01\xa2op", *op, *field, *marker].concat()
    };
    fields.iter().flat_map(|field| markers.iter().map(move |marker| body(field, marker))).collect()
}

#[test]
fn a_promise_of_four_gib_allocates_at_most_a_mebibyte() {
    let promises = promises();
    for body in &promises {
        LARGEST.store(0, Ordering::Relaxed);
        assert!(Request::decode(body).is_err());
        let _ = decode_reply::<PeerCertificate>(body);
        let _ = LockStepRequest::decode(body);
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(largest <= 1 << 20, "{largest} bytes for {body:x?}");
    }
}
