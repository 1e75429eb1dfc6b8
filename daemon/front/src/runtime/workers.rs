//! The threads of the front that run connections. Each has a current-thread runtime, so a connection stays on the core
//! on which it began.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// The task of a connection on a thread.
pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A set of threads of the same kind.
pub(crate) struct Workers {
    handles: Vec<tokio::runtime::Handle>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts `count` threads. `signing` determines whether they may wait for the keeper.
    ///
    /// # Errors
    /// Returns an error if the kernel supplies no thread or no epoll instance.
    pub(crate) fn start(name: &str, count: usize, signing: bool) -> io::Result<Self> {
        let handles = (0..count).map(|_| start_thread(name, signing)).collect::<io::Result<_>>()?;
        Ok(Self { handles, next: AtomicUsize::new(0) })
    }

    /// Runs a job on one of the threads, which take turns.
    pub(crate) fn spawn(&self, job: Job) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.handles[turn % self.handles.len()].spawn(job);
    }
}

/// Runs a job on a dedicated thread, which ends with the job. It may wait for the keeper and for other events.
///
/// # Errors
/// Returns an error if the kernel supplies no thread.
pub(crate) fn run_on_dedicated_thread(name: &str, job: Job) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        luassl_tls::may_sign(true);
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(job),
            Err(error) => tracing::error!("a handshake has no thread of its own: {error}"),
        }
    })?;
    Ok(())
}

fn start_thread(name: &str, signing: bool) -> io::Result<tokio::runtime::Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        luassl_tls::may_sign(signing);
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
}
