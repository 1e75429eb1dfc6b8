//! A file whose server does not answer: a file system by the kernel's FUSE protocol (`<linux/fuse.h>`), without libfuse.
//! The one file can be opened; reading it, asking for its size, and closing it wait until the file system is gone.
//!
//! Its server is a process of its own (`unanswered DIRECTORY`), which has no copy of the file: with that process ends the
//! file system, and every wait for it.

use crate::process::Process;
use crate::{built, scratch};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Requests of the kernel's, by their numbers.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
/// A read of the file.
pub const READ: u32 = 15;
/// A close of one of the file's descriptors.
pub const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The directory, and the one file in it.
const ROOT: u64 = 1;
const FILE: u64 = 2;
const NAME: &str = "never";

/// Of the protocol that is spoken: 7.31, whose answer to INIT has 64 bytes.
const VERSION: [u32; 2] = [7, 31];
/// The longest request, with a margin: the kernel wants room for 8 KiB at least.
const REQUEST_MAX: usize = 256 * 1024;
/// `struct fuse_in_header`.
const HEADER: usize = 40;

/// A mounted file system; whoever waits for it goes on when this is dropped.
///
/// A process that this one starts meanwhile inherits the file until it executes its program, and waits when it closes it.
pub struct Stalled {
    server: Process,
    file: Option<File>,
    _directory: TempDir,
}

impl Stalled {
    /// Mounts it; none where this kernel or this user cannot, which is said.
    ///
    /// # Panics
    /// When the file cannot be opened.
    #[must_use]
    pub fn mount() -> Option<Self> {
        let directory = scratch();
        let mut server = Process::start(Command::new(built("test/unanswered")).arg(directory.path()));
        let said = server.line();
        if said != "mounted" {
            eprintln!("not tried: no FUSE file system can be mounted here (/dev/fuse, root): {said}");
            return None;
        }
        let file = File::open(directory.path().join(NAME)).expect("the file");
        Some(Self { server, file: Some(file), _directory: directory })
    }

    /// The file.
    ///
    /// # Panics
    /// Never: it is there until the end.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("open until the end")
    }

    /// Waits until somebody waits for this request.
    ///
    /// # Panics
    /// When nobody does.
    pub fn expect(&self, request: u32) {
        self.server.expect(&format!("left {request}\n"));
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.server.close_input();
        if self.server.try_wait_within(crate::PATIENCE).is_none() {
            self.server.signal(rustix::process::Signal::KILL);
        }
        // The file behind its server: before that its close would wait as well.
        self.file = None;
    }
}

/// What `unanswered DIRECTORY` does, until its standard input ends.
///
/// # Errors
/// The system's, where the file system cannot be mounted.
pub fn serve_at(directory: &Path) -> std::io::Result<()> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    mount(directory, &device)?;
    println!("mounted");
    std::thread::spawn(move || serve(device));
    // Its end, an error as well, is the end.
    let _ = std::io::stdin().read(&mut [0]);
    unmount(directory);
    Ok(())
}

/// Ends the file system at once, whoever uses it.
fn unmount(path: &Path) {
    let path = text(path);
    // SAFETY: takes a path, which ends with a zero byte.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_FORCE | libc::MNT_DETACH) };
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero byte in a path")
}

fn mount(at: &Path, device: &File) -> std::io::Result<()> {
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let (at, options) = (text(at), CString::new(options)?);
    let kind = c"fuse".as_ptr();
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: four texts that end with a zero byte and outlive the call.
    match unsafe { libc::mount(kind, at.as_ptr(), kind, flags, options.as_ptr().cast()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Answers what it takes to open the file, and leaves everything else.
fn serve(mut device: File) {
    let mut request = vec![0; REQUEST_MAX];
    // An error is the end of the file system; or a request that was taken back, which only the next read shows.
    while let Ok(length) = device.read(&mut request) {
        let Some(header) = request.get(..length.min(HEADER)).filter(|header| header.len() == HEADER) else {
            continue;
        };
        let (kind, node) = (number(header, 4), u64_at(header, 16));
        let body = match (kind, node) {
            (INIT, _) => initial(),
            (LOOKUP, ROOT) => entry(),
            (GETATTR, ROOT) => attributes_of(ROOT),
            (OPEN, FILE) => vec![0; 16],
            (FORGET | BATCH_FORGET | INTERRUPT, _) => continue,
            (GETATTR | READ | FLUSH, FILE) => {
                println!("left {kind}");
                continue;
            }
            _ => {
                answer(&mut device, header, -libc::ENOSYS, &[]);
                continue;
            }
        };
        answer(&mut device, header, 0, &body);
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// `struct fuse_out_header`, and what follows it.
fn answer(device: &mut File, request: &[u8], error: i32, body: &[u8]) {
    let length = u32::try_from(16 + body.len()).unwrap_or_default();
    let head = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &request[8..16]].concat();
    // Whoever asked may have gone.
    let _ = device.write(&[&head, body].concat());
}

/// `struct fuse_init_out`.
fn initial() -> Vec<u8> {
    let mut out = vec![0; 64];
    for (place, value) in [(0, VERSION[0]), (4, VERSION[1]), (20, 4096)] {
        out[place..place + 4].copy_from_slice(&value.to_ne_bytes());
    }
    out
}

/// `struct fuse_entry_out`: nothing in it stays valid, so every look at the file is a request.
fn entry() -> Vec<u8> {
    let mut out = vec![0; 40];
    out[..8].copy_from_slice(&FILE.to_ne_bytes());
    out.extend(attributes(FILE));
    out
}

/// `struct fuse_attr_out`.
fn attributes_of(node: u64) -> Vec<u8> {
    [vec![0; 16], attributes(node)].concat()
}

/// `struct fuse_attr`.
fn attributes(node: u64) -> Vec<u8> {
    let mode = if node == ROOT { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o666 };
    let mut out = vec![0; 88];
    out[..8].copy_from_slice(&node.to_ne_bytes());
    out[8..16].copy_from_slice(&4096_u64.to_ne_bytes());
    out[60..64].copy_from_slice(&mode.to_ne_bytes());
    out[64..68].copy_from_slice(&1_u32.to_ne_bytes());
    out
}
