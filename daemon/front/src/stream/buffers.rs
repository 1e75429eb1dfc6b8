//! Buffers that belong to a thread, so that an idle connection holds none (`docs/architecture.md`, "One byte").

use std::cell::RefCell;

/// The number of bytes of ciphertext that one receive takes.
const CIPHER_BATCH: usize = 128 * 1024;

/// The number of bytes of plaintext that one pass moves. It is more than one receive returns. Each pass towards Lua is
/// a wake-up of its process, often on another core, and that costs more than a smaller batch saves in the cache
/// (`docs/decisions/0009-batches.md`).
const PLAIN_BATCH: usize = 256 * 1024;

/// The overhead that OpenSSL adds to each record, used only for the capacity of the outgoing buffer. RFC 5246, 6.2.3
/// permits at most 2,048 bytes; in practice it is about 30.
const RECORD_OVERHEAD: usize = 256;

/// One thread's buffers for ciphertext.
pub(crate) struct Buffers {
    /// The received ciphertext.
    pub(crate) cipher_in: Box<[u8]>,
    /// The ciphertext to be sent.
    pub(crate) cipher_out: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        Self {
            cipher_in: vec![0; CIPHER_BATCH].into_boxed_slice(),
            cipher_out: Vec::with_capacity(PLAIN_BATCH + (PLAIN_BATCH / 16384 + 1) * RECORD_OVERHEAD),
        }
    }
}

/// Bytes that could not be passed on at once, and the number of them that have been passed on since.
#[derive(Default)]
pub(crate) struct Leftover {
    bytes: Vec<u8>,
    done: usize,
}

impl Leftover {
    /// Keeps a copy of `bytes`, which replaces the previous content.
    pub(crate) fn stash(&mut self, bytes: &[u8]) {
        self.bytes = bytes.to_vec();
        self.done = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.done == self.bytes.len()
    }

    /// Returns the bytes that have not been passed on yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    /// Marks `count` more bytes as passed on. The memory is freed with the last byte.
    pub(crate) fn advance(&mut self, count: usize) {
        self.done += count;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Discards all bytes.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

thread_local! {
    static BUFFERS: RefCell<Option<Buffers>> = const { RefCell::new(None) };
    static PLAIN: RefCell<Option<Box<[u8]>>> = const { RefCell::new(None) };
}

/// Lends this thread's buffers for one activation of a connection. [`give_back`] returns them.
pub(crate) fn lend() -> Buffers {
    BUFFERS.with_borrow_mut(Option::take).unwrap_or_else(Buffers::new)
}

/// Takes the buffers back for the next connection.
pub(crate) fn give_back(mut buffers: Buffers) {
    buffers.cipher_out.clear();
    BUFFERS.with_borrow_mut(|slot| *slot = Some(buffers));
}

/// Runs `work` with this thread's buffer for plaintext.
pub(crate) fn with_plain<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut plain =
        PLAIN.with_borrow_mut(Option::take).unwrap_or_else(|| vec![0; PLAIN_BATCH].into_boxed_slice());
    let outcome = work(&mut plain);
    PLAIN.with_borrow_mut(|slot| *slot = Some(plain));
    outcome
}
