//! A process of the test's own: its output is collected, and it ends with the value.

use crate::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a stream of the process has said so far.
#[derive(Default)]
struct Said {
    text: Vec<u8>,
    ended: bool,
}

/// One output stream, read by a thread of its own.
#[derive(Clone, Default)]
struct Stream(Arc<(Mutex<Said>, Condvar)>);

impl Stream {
    fn of(mut source: impl Read + Send + 'static) -> Self {
        let stream = Self::default();
        let copy = stream.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                copy.with(|said| said.text.extend_from_slice(&buffer[..count]));
            }
            copy.with(|said| said.ended = true);
        });
        stream
    }

    fn with<T>(&self, change: impl FnOnce(&mut Said) -> T) -> T {
        let (lock, changed) = &*self.0;
        let result = change(&mut lock.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
        result
    }

    /// Waits until `question` has an answer, or nothing more can come, or `deadline`.
    fn wait<T>(&self, deadline: Instant, mut question: impl FnMut(&mut Said) -> Option<T>) -> Option<T> {
        let (lock, changed) = &*self.0;
        let mut said = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let answer = question(&mut said);
            let left = deadline.saturating_duration_since(Instant::now());
            if answer.is_some() || said.ended || left.is_zero() {
                return answer;
            }
            said = changed.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn text(&self) -> String {
        self.with(|said| String::from_utf8_lossy(&said.text).into_owned())
    }
}

/// A running process.
pub struct Process {
    child: Child,
    name: String,
    stdin: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
    /// How much of the output [`Process::line`] has handed out.
    taken: usize,
}

impl Process {
    /// Starts `command` with pipes for its three streams.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} did not start: {error}"));
        let stdout = child.stdout.take().map(Stream::of).unwrap_or_default();
        let stderr = child.stderr.take().map(Stream::of).unwrap_or_default();
        let stdin = child.stdin.take();
        Self { child, name, stdin, stdout, stderr, taken: 0 }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal_pid(self.pid(), signal);
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When it has closed its end.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let Some(stdin) = &mut self.stdin else { panic!("{}: its input is closed", self.name) };
        if let Err(error) = stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush()) {
            panic!("{} does not read its input: {error}\n{}", self.name, self.transcript());
        }
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of its standard output that was not handed out yet.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`].
    pub fn line(&mut self) -> String {
        self.line_within(PATIENCE)
    }

    /// The next line of its standard output, within `patience`.
    ///
    /// # Panics
    /// When none comes.
    pub fn line_within(&mut self, patience: Duration) -> String {
        match self.try_line(patience) {
            Some(line) => line,
            None => panic!("{}: no line came within {patience:?}\n{}", self.name, self.transcript()),
        }
    }

    /// The next line of its standard output, or none where it does not come within `patience`.
    pub fn try_line(&mut self, patience: Duration) -> Option<String> {
        let taken = self.taken;
        let line = self.stdout.wait(Instant::now() + patience, |said| {
            let rest = &said.text[taken..];
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            Some(String::from_utf8_lossy(&rest[..end]).into_owned())
        })?;
        self.taken = self.next_line_start(taken);
        Some(line)
    }

    fn next_line_start(&self, from: usize) -> usize {
        self.stdout.with(|said| {
            said.text[from..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(said.text.len(), |at| from + at + 1)
        })
    }

    /// Waits until standard output has `text` in it.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub fn expect(&self, text: &str) {
        self.expect_in(&self.stdout, text);
    }

    /// Waits until standard error has `text` in it.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub fn expect_error(&self, text: &str) {
        self.expect_in(&self.stderr, text);
    }

    fn expect_in(&self, stream: &Stream, text: &str) {
        let found = stream.wait(Instant::now() + PATIENCE, |said| {
            memchr::memmem::find(&said.text, text.as_bytes()).map(|_| ())
        });
        assert!(found.is_some(), "{} did not say {text:?}\n{}", self.name, self.transcript());
    }

    /// Everything that it has written to standard output.
    #[must_use]
    pub fn output(&self) -> String {
        self.stdout.text()
    }

    /// Everything that it has written to standard error.
    #[must_use]
    pub fn errors(&self) -> String {
        self.stderr.text()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its end, where that comes in time.
    pub fn try_wait_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Waits for its end, and for the last of its output.
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub fn wait_within(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                let rest = Instant::now() + Duration::from_secs(2);
                self.stdout.wait(rest, |_| None::<()>);
                self.stderr.wait(rest, |_| None::<()>);
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not end within {patience:?}\n{}",
                self.name,
                self.transcript()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended within [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(PATIENCE)
    }

    /// Waits for its end, which has to be a good one, and gives its standard output.
    ///
    /// # Panics
    /// When it fails, or does not end.
    pub fn finish(&mut self) -> String {
        let status = self.wait();
        assert!(status.success(), "{}: {status}\n{}", self.name, self.transcript());
        self.output()
    }

    /// What it has said on both streams, for a failure's message.
    #[must_use]
    pub fn transcript(&self) -> String {
        format!("--- output of {}\n{}--- errors\n{}---", self.name, self.output(), self.errors())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that the caller, or a process of the caller's, has started.
pub fn signal_pid(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Process ids of the children of `pid`.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The command line of `pid`, its words separated by spaces.
#[must_use]
pub fn command_line(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()
}

/// Runs `work` on a thread that is another user's.
///
/// # Panics
/// Where the test is not root's, and when `work` does.
pub fn as_user<T: Send + 'static>(uid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        // SAFETY: these take numbers alone. libc's own would change every thread of the process; these change this one.
        let changed = unsafe {
            libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0
                && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
        };
        assert!(changed, "{}", std::io::Error::last_os_error());
        work()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
