//! Fixed-layout messages of the key process.
