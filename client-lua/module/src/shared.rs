//! What all objects of one Lua state share.

use luassl_client::Client;
use std::cell::RefCell;
use std::rc::Rc;

/// What one read takes at most: the front sends up to so much in one piece.
const BUFFER: usize = 128 << 10;

/// What all objects of one Lua state share.
pub(crate) struct Shared {
    pub(crate) client: Rc<Client>,
    buffer: RefCell<Vec<u8>>,
    /// For the answers on lock-step connections.
    pub(crate) scratch: RefCell<Vec<u8>>,
}

impl Shared {
    /// Those of a state whose programs call themselves `name` to the daemon.
    pub(crate) fn new(name: String) -> Self {
        Self { client: Client::new(name, None), buffer: RefCell::default(), scratch: RefCell::default() }
    }

    /// Runs `work` with the buffer, which is allocated when it is first needed. A finaliser of the program's may run
    /// while a string is made, and read in its turn: it gets a buffer of its own.
    pub(crate) fn with_buffer<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut buffer = self.buffer.take();
        if buffer.is_empty() {
            buffer.resize(BUFFER, 0);
        }
        let result = work(&mut buffer);
        self.buffer.replace(buffer);
        result
    }
}
