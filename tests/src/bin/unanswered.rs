//! `unanswered DIRECTORY`: mounts a file system with one file there, whose reads and closes it never answers, until its
//! standard input ends. Prints `mounted`, or why not, and each request that it leaves.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: unanswered DIRECTORY");
        return ExitCode::from(2);
    };
    match luassl_tests::fuse::serve_at(directory.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
