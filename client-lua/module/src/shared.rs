//! The state that all objects of one Lua state share.

use luassl_client::Client;
use std::cell::RefCell;
use std::rc::Rc;

/// The maximum size of one read. The front sends up to this amount at once.
const BUFFER: usize = 128 << 10;

/// The state that all objects of one Lua state share.
pub(crate) struct Shared {
    pub(crate) client: Rc<Client>,
    buffer: RefCell<Vec<u8>>,
    /// The buffer for answers on lock-step connections.
    pub(crate) scratch: RefCell<Vec<u8>>,
}

impl Shared {
    /// Creates the shared state with a client of the name `name`.
    pub(crate) fn new(name: String) -> Self {
        Self { client: Client::new(name, None), buffer: RefCell::default(), scratch: RefCell::default() }
    }

    /// Runs `work` with the buffer, which is allocated on first use. A finaliser of the program may run while
    /// a string is created, and may also read. It then gets its own buffer.
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
