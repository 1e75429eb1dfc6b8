//! Buffers that belong to a thread, so that an idle connection holds none (`docs/architecture.md`, "One byte").

use std::cell::RefCell;

/// How much ciphertext one receive takes, in bytes.
const CIPHER_BATCH: usize = 128 * 1024;

/// How much plaintext one pass moves, in bytes. More than one receive brings: each pass towards Lua is a wake-up of its
/// process, often on another core, and that costs more than what a smaller batch saves in the cache
/// (`docs/decisions/0009-batches.md`).
const PLAIN_BATCH: usize = 256 * 1024;

/// What OpenSSL adds to each record at most (RFC 5246, 6.2.3: 2,048; in practice some 30), for the capacity of the
/// outgoing buffer alone.
const RECORD_OVERHEAD: usize = 256;

/// One thread's buffers for ciphertext.
pub(crate) struct Buffers {
    /// As received.
    pub(crate) cipher_in: Box<[u8]>,
    /// To be sent.
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

/// Bytes that could not go on at once, and how many of them have gone since.
#[derive(Default)]
pub(crate) struct Leftover {
    bytes: Vec<u8>,
    done: usize,
}

impl Leftover {
    /// Keeps a copy of `bytes`, in place of what was there.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.bytes = bytes.to_vec();
        self.done = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.done == self.bytes.len()
    }

    /// What has not gone yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    /// Marks `count` more bytes as gone; the last one takes the memory with it.
    pub(crate) fn advance(&mut self, count: usize) {
        self.done += count;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

thread_local! {
    static BUFFERS: RefCell<Option<Buffers>> = const { RefCell::new(None) };
    static PLAIN: RefCell<Option<Box<[u8]>>> = const { RefCell::new(None) };
}

/// Lends this thread's buffers for one activation of a connection; they come back by [`give_back`].
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
