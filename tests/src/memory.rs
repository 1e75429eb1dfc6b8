//! Looks for byte strings in the memory of a running process, by each way that there is, and in its core.

use crate::needles::Needle;
use memchr::memmem::Finder;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How much is read at a time.
const STEP: usize = 1 << 20;
/// The unit in which memory is readable or not.
const PAGE: u64 = 4096;

/// What a scan of one process saw.
#[derive(Debug, Default)]
pub struct Scan {
    /// How often each needle was found, by its name.
    pub hits: BTreeMap<String, usize>,
    /// Bytes that were looked at.
    pub read: u64,
    /// Bytes of mappings that the kernel lets nobody read (`[vvar]`, memfd_secret, pages beyond a file's end).
    pub unreadable: u64,
}

impl Scan {
    /// Hits of all needles together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.hits.values().sum()
    }
}

/// Scans all readable memory of process `pid` for `needles`, by /proc/PID/mem.
///
/// # Errors
/// Where the process is gone, or the kernel refuses to let its memory be read (not dumpable, other user, ptrace
/// scope).
pub fn scan(pid: u32, needles: &[Needle]) -> io::Result<Scan> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    scan_by(pid, needles, &|bytes, at| memory.read_at(bytes, at))
}

/// As [`scan`], by process_vm_readv.
///
/// # Errors
/// As [`scan`].
pub fn scan_by_call(pid: u32, needles: &[Needle]) -> io::Result<Scan> {
    scan_by(pid, needles, &|bytes, at| process_vm_readv(pid, bytes, at))
}

/// Scans the core that gdb's gcore makes of process `pid`; none where gcore is not installed.
///
/// # Errors
/// Where gcore fails or its file cannot be read.
pub fn scan_core(pid: u32, needles: &[Needle]) -> io::Result<Option<Scan>> {
    let directory = crate::scratch();
    let Some(core) = gcore(pid, directory.path())? else { return Ok(None) };
    let file = File::open(core)?;
    let length = file.metadata()?.len();
    let mut scan = Scan::default();
    let finders: Vec<_> = needles.iter().map(|needle| (needle, Finder::new(&needle.bytes))).collect();
    scan_range(&|bytes, at| file.read_at(bytes, at), 0..length, &finders, longest(needles), &mut scan)?;
    Ok(Some(scan))
}

fn gcore(pid: u32, directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut command = Command::new("gcore");
    command.arg("-o").arg(directory.join("core")).arg(pid.to_string());
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(output) => {
            let core = directory.join(format!("core.{pid}"));
            let failed = || io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned());
            if core.exists() { Ok(Some(core)) } else { Err(failed()) }
        }
    }
}

/// Reads another process's memory by the call that debuggers have for it.
///
/// # Errors
/// EPERM where the kernel refuses it; EFAULT where nothing can be read at that address.
pub fn process_vm_readv(pid: u32, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: at as *mut _, iov_len: bytes.len() };
    // SAFETY: writes into `bytes` alone, which is as long as it says; the other address is the other process's.
    let count =
        unsafe { libc::process_vm_readv(pid.cast_signed(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// `read` reads bytes at an address.
fn scan_by(
    pid: u32,
    needles: &[Needle],
    read: &impl Fn(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<Scan> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let finders: Vec<_> = needles.iter().map(|needle| (needle, Finder::new(&needle.bytes))).collect();
    let mut scan = Scan::default();
    for (start, end) in maps.lines().filter_map(readable_range) {
        scan_range(read, start..end, &finders, longest(needles), &mut scan)?;
    }
    if scan.read == 0 {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "none of its memory is readable"));
    }
    Ok(scan)
}

fn longest(needles: &[Needle]) -> usize {
    needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or(1)
}

/// The range of a line of /proc/PID/maps.
fn readable_range(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    if !rest.starts_with('r') || rest.ends_with("[vsyscall]") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

fn scan_range(
    read: &impl Fn(&mut [u8], u64) -> io::Result<usize>,
    range: Range<u64>,
    finders: &[(&Needle, Finder<'_>)],
    longest: usize,
    scan: &mut Scan,
) -> io::Result<()> {
    let mut window = Vec::with_capacity(STEP + longest);
    let (mut at, end) = (range.start, range.end);
    while at < end {
        let wanted = STEP.min((end - at) as usize);
        let kept = window.len();
        window.resize(kept + wanted, 0);
        match read(&mut window[kept..], at) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                window.truncate(kept + count);
                count_hits(&window, kept, finders, scan);
                window.drain(..window.len().saturating_sub(longest - 1));
                at += count as u64;
                scan.read += count as u64;
            }
            Err(error) if is_hole(&error) => {
                window.clear();
                let next = (at / PAGE + 1) * PAGE;
                scan.unreadable += next - at;
                at = next;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Counts what ends in the new part of the window, which begins at `kept`.
fn count_hits(window: &[u8], kept: usize, finders: &[(&Needle, Finder<'_>)], scan: &mut Scan) {
    for (needle, finder) in finders {
        let hits = finder.find_iter(window).filter(|at| at + needle.bytes.len() > kept).count();
        if hits > 0 {
            *scan.hits.entry(needle.name.clone()).or_default() += hits;
        }
    }
}

fn is_hole(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EFAULT | libc::ENXIO | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_lies_in_this_process() {
        let secret: Vec<u8> = (0..64).map(|n: u8| n.wrapping_mul(151) ^ 0x5a).collect();
        let needle = Needle { name: "secret".to_owned(), bytes: secret.clone() };
        for way in [scan, scan_by_call] {
            let scan = way(std::process::id(), std::slice::from_ref(&needle)).unwrap();
            assert!(scan.total() >= 2, "the secret and its copy in the needle: {scan:?}");
        }
        assert_eq!(secret.len(), 64);
    }

    #[test]
    fn counts_a_hit_across_two_windows_once() {
        let needle = Needle { name: "n".to_owned(), bytes: b"abcdef".to_vec() };
        let finders = [(&needle, Finder::new(&needle.bytes))];
        let mut scan = Scan::default();
        count_hits(b"xxxabc", 0, &finders, &mut scan);
        count_hits(b"xabcdefyy", 4, &finders, &mut scan);
        count_hits(b"abcdefyy", 6, &finders, &mut scan);
        assert_eq!(scan.total(), 1);
    }
}
