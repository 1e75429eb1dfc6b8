//! Threads that parse data from programs, and build their contexts.
//!
//! The sender of the data determines how long this work takes. So it never runs on the thread of the control sockets or
//! on a thread that runs connections. One owner has at most one of these threads at a time, owners take turns, and the
//! CPU time of these threads for one owner is limited.

#[cfg(test)]
mod tests;

use crate::authorization::owner::Owner;
use luassl_protocol::{ErrorCode, Failure};
use luassl_settings::Limits;
use luassl_tls as tls;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::{HashMap, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The number of threads, independently of the number of cores. One owner holds at most one of them.
pub(super) const THREADS: usize = 3;

/// The period to which the CPU time of `[limits] parsing_cpu_per_owner` applies.
const WINDOW: Duration = Duration::from_secs(60);

/// The number of owners at which those that have no job and have used none of their CPU time are removed.
const SWEEP_AT: usize = 64;

/// The peak of libcrypto's memory above which the free memory is returned to the system after a job, in bytes.
/// Otherwise each of the threads would keep as much as its largest job took.
const TRIM_AT: u64 = 1 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// CPU time that is refilled at a steady rate.
#[derive(Debug, Clone, Copy)]
struct Budget {
    whole: Duration,
    /// Negative time is the excess of the last job.
    left_ns: i64,
    at: Instant,
}

impl Budget {
    fn new(whole: Duration, now: Instant) -> Self {
        Self { whole, left_ns: nanoseconds(whole), at: now }
    }

    /// Adds the time that has been refilled by `now`.
    fn refill(&mut self, whole: Duration, now: Instant) {
        let since = now.saturating_duration_since(self.at).min(WINDOW * 60);
        let back = since.as_secs_f64() * whole.as_secs_f64() / WINDOW.as_secs_f64();
        let back = nanoseconds(Duration::from_secs_f64(back));
        self.left_ns = (self.left_ns.saturating_add(back)).min(nanoseconds(whole));
        (self.whole, self.at) = (whole, now);
    }

    /// Returns how long to wait until there is time again; `None` if there is time now.
    fn wait(&self) -> Option<Duration> {
        let lacking =
            u64::try_from(1_i64.saturating_sub(self.left_ns)).ok().filter(|lacking| *lacking > 0)?;
        let rate = self.whole.as_secs_f64() / WINDOW.as_secs_f64();
        let seconds = Duration::from_nanos(lacking).as_secs_f64() / rate;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(WINDOW))
    }

    fn is_whole(&self) -> bool {
        self.left_ns >= nanoseconds(self.whole)
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// The jobs of one owner.
struct Account {
    jobs: VecDeque<Job>,
    busy: bool,
    budget: Budget,
}

/// The order of the owners. The time is passed as an argument.
#[derive(Default)]
struct Queues {
    accounts: HashMap<Owner, Account>,
    /// The owners with jobs that no thread has begun, in their order.
    turns: VecDeque<Owner>,
    ended: bool,
}

/// The next action of a thread.
enum Next {
    Run(Owner, Job),
    /// No job. After this time there may be one, without a further wake-up.
    Wait(Option<Duration>),
}

impl Queues {
    /// Adds a job, unless `most` jobs of this owner already wait.
    fn submit(
        &mut self,
        owner: &Owner,
        job: Job,
        most: usize,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Failure> {
        if self.accounts.len() >= SWEEP_AT {
            self.sweep(now);
        }
        let whole = limits.parsing_cpu();
        let account = self.accounts.entry(owner.clone()).or_insert_with(|| Account {
            jobs: VecDeque::new(),
            busy: false,
            budget: Budget::new(whole, now),
        });
        account.budget.refill(whole, now);
        if account.jobs.len() >= most {
            return Err(Failure::new(
                ErrorCode::Limit,
                format!(
                    "{most} requests of this user with certificates wait already ([limits] parsing_jobs_per_owner): \
                     ask again when some are answered"
                ),
            ));
        }
        if !account.busy && account.jobs.is_empty() {
            self.turns.push_back(owner.clone());
        }
        account.jobs.push_back(job);
        Ok(())
    }

    /// Returns the next job of the next owner that has CPU time left.
    fn next(&mut self, now: Instant) -> Next {
        let mut soonest: Option<Duration> = None;
        for place in 0..self.turns.len() {
            let Some(account) = self.accounts.get_mut(&self.turns[place]) else { continue };
            account.budget.refill(account.budget.whole, now);
            if let Some(wait) = account.budget.wait() {
                soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
                continue;
            }
            if let Some(job) = account.jobs.pop_front()
                && let Some(owner) = self.turns.remove(place)
            {
                account.busy = true;
                return Next::Run(owner, job);
            }
        }
        Next::Wait(soonest)
    }

    /// Records that a job is done, which took `spent` of CPU time.
    fn done(&mut self, owner: Owner, spent: Duration) {
        let Some(account) = self.accounts.get_mut(&owner) else { return };
        account.busy = false;
        account.budget.left_ns = account.budget.left_ns.saturating_sub(nanoseconds(spent));
        if !account.jobs.is_empty() {
            self.turns.push_back(owner);
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.accounts.retain(|_, account| {
            account.budget.refill(account.budget.whole, now);
            account.busy || !account.jobs.is_empty() || !account.budget.is_whole()
        });
    }
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock()
    }

    /// Waits for a job. Returns `None` if there will be no more jobs.
    fn take(&self) -> Option<(Owner, Job)> {
        let mut queues = self.lock();
        while !queues.ended {
            match queues.next(Instant::now()) {
                Next::Run(owner, job) => return Some((owner, job)),
                Next::Wait(None) => self.changed.wait(&mut queues),
                Next::Wait(Some(wait)) => {
                    self.changed.wait_for(&mut queues, wait);
                }
            }
        }
        None
    }

    fn work(&self) {
        while let Some((owner, job)) = self.take() {
            let before = thread_time();
            let (outcome, taken) = tls::peak_of(|| catch_unwind(AssertUnwindSafe(job)));
            if taken >= TRIM_AT {
                tls::trim();
            }
            if outcome.is_err() {
                tracing::error!(uid = owner.uid, "a request with certificates panicked, and has failed");
            }
            let spent = thread_time().saturating_sub(before);
            self.lock().done(owner, spent);
            self.changed.notify_one();
        }
    }
}

/// Returns the CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

/// The parsing threads, as the module documentation describes.
pub(super) struct Parsing(Arc<Shared>);

impl Parsing {
    /// Starts [`THREADS`] threads.
    ///
    /// # Errors
    /// Returns an error if the kernel supplies no thread.
    pub(super) fn start() -> io::Result<Self> {
        let parsing = Self(Arc::default());
        for _ in 0..THREADS {
            let shared = Arc::clone(&parsing.0);
            thread::Builder::new().name("parse".to_owned()).spawn(move || {
                tls::may_sign(false);
                shared.work();
            })?;
        }
        Ok(parsing)
    }

    /// Runs a job of `owner` in its turn. The job does not run if its caller no longer waits for it.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Limit`] if too many jobs of this owner already wait, and [`ErrorCode::Internal`] if the job
    /// panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        owner: &Owner,
        limits: &Limits,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.run_among(limits.parsing_jobs_per_owner as usize, owner, limits, work).await
    }

    /// Runs a job as [`Parsing::run`] does, for a large request before its kind is known. The number of waiting jobs of
    /// an owner is not limited here, because each control connection has at most one.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Internal`] if the job panics.
    pub(super) async fn run_frame<T: Send + 'static>(
        &self,
        owner: &Owner,
        limits: &Limits,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.run_among(usize::MAX, owner, limits, work).await
    }

    /// Returns the number of jobs of `owner` that no thread has begun.
    #[cfg(test)]
    pub(super) fn waiting(&self, owner: &Owner) -> usize {
        self.0.lock().accounts.get(owner).map_or(0, |account| account.jobs.len())
    }

    async fn run_among<T: Send + 'static>(
        &self,
        most: usize,
        owner: &Owner,
        limits: &Limits,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move || {
            if !reply.is_closed() {
                // The principal may have disconnected in the meantime.
                let _ = reply.send(work());
            }
        });
        self.0.lock().submit(owner, job, most, limits, Instant::now())?;
        self.0.changed.notify_one();
        answer.await.map_err(|_| Failure::new(ErrorCode::Internal, "the request could not be carried out"))
    }
}

impl Drop for Parsing {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}
