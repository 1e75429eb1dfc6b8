//! The keeper. `luassld run` gives it its one option. All code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    luassl_keeper::main()
}
