//! `keyscan KEY.pem PID...`: counts the traces of a private key in the memory of processes.
//!
//! Exit code 0: scanned all and found nothing; 1: found something; 2: could not look; 3: the kernel refuses to let a
//! process be looked into.

use luassl_tests::{memory, needles};
use std::io::ErrorKind;
use std::process::ExitCode;

/// Why there is no answer.
enum Failure {
    Refused,
    Other(String),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(key), pids) = (arguments.next(), arguments.collect::<Vec<_>>()) else { return usage() };
    if pids.is_empty() {
        return usage();
    }
    match scan_all(&key, &pids) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(Failure::Refused) => ExitCode::from(3),
        Err(Failure::Other(message)) => {
            eprintln!("keyscan: {message}");
            ExitCode::from(2)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: keyscan KEY.pem PID...");
    ExitCode::from(2)
}

fn scan_all(key: &str, pids: &[String]) -> Result<usize, Failure> {
    let pem = std::fs::read(key).map_err(|error| Failure::Other(format!("{key}: {error}")))?;
    let needles =
        needles::of_pem(&pem).map_err(|error| Failure::Other(format!("{key}: no private key: {error}")))?;
    let mut total = 0;
    for pid in pids {
        total += scan_one(pid, &needles)?;
    }
    Ok(total)
}

fn scan_one(pid: &str, needles: &[needles::Needle]) -> Result<usize, Failure> {
    let number = pid.parse().map_err(|_| Failure::Other(format!("{pid}: not a process id")))?;
    let name = process_name(pid);
    let scan = match memory::scan(number, needles) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("{name} ({pid}): the kernel refuses to let it be read: {error}");
            return Err(Failure::Refused);
        }
        scanned => scanned.map_err(|error| Failure::Other(format!("{name} ({pid}): {error}")))?,
    };
    let mebibytes = scan.read as f64 / f64::from(1 << 20);
    println!("{name} ({pid}): {} hits in {mebibytes:.1} MiB", scan.total());
    for (what, count) in &scan.hits {
        println!("    {what}: {count}");
    }
    Ok(scan.total())
}

/// The command line as far as it tells processes apart.
fn process_name(pid: &str) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let program = words.first().map(|word| word.rsplit('/').next().unwrap_or_default().to_owned());
    let script = words
        .iter()
        .skip(1)
        .find(|word| word.ends_with(".lua") || matches!(&***word, "front" | "run" | "s_server"));
    [program.unwrap_or_default(), script.map(ToString::to_string).unwrap_or_default()]
        .join(" ")
        .trim()
        .to_owned()
}
