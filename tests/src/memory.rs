//! Looks for byte strings in the memory of a running process.

use crate::needles::Needle;
use memchr::memmem::Finder;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

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

/// Scans all readable memory of process `pid` for `needles`.
///
/// # Errors
/// Where the process is gone, or the kernel refuses to let its memory be read (not dumpable, other user, ptrace
/// scope).
pub fn scan(pid: u32, needles: &[Needle]) -> io::Result<Scan> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let finders: Vec<_> = needles.iter().map(|needle| (needle, Finder::new(&needle.bytes))).collect();
    let longest = needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or(1);
    let mut scan = Scan::default();
    for (start, end) in maps.lines().filter_map(readable_range) {
        scan_range(&memory, start, end, &finders, longest, &mut scan)?;
    }
    if scan.read == 0 {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "none of its memory is readable"));
    }
    Ok(scan)
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
    memory: &File,
    start: u64,
    end: u64,
    finders: &[(&Needle, Finder<'_>)],
    longest: usize,
    scan: &mut Scan,
) -> io::Result<()> {
    let mut window = Vec::with_capacity(STEP + longest);
    let mut at = start;
    while at < end {
        let wanted = STEP.min((end - at) as usize);
        let kept = window.len();
        window.resize(kept + wanted, 0);
        match memory.read_at(&mut window[kept..], at) {
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
        let scan = scan(std::process::id(), &[needle]).unwrap();
        assert!(scan.total() >= 2, "the secret and its copy in the needle: {scan:?}");
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
