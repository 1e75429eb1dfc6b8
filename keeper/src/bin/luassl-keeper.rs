//! The keeper; it takes no arguments. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    luassl_keeper::main()
}
