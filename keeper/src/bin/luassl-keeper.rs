//! The keeper; `luassld run` gives it the one option that it has. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    luassl_keeper::main()
}
