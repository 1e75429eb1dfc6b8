//! The threads that use keys. Their stacks are part of the arena, because libcrypto leaves values there that reveal a
//! key or are as sensitive as one: an ECDSA nonce, or the salt of a PSS signature. A caller that needs a key passes its
//! task to one of these threads and waits.

use crate::arena::{self, ArenaError, Stack};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The reason why the threads cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SignersError {
    /// No stack is available for a thread.
    #[error(transparent)]
    Stack(#[from] ArenaError),
    /// The system refuses to start a thread.
    #[error("a signing thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// A fixed number of threads, and the queue of tasks.
pub(crate) struct Signers(Arc<Queue>);

#[derive(Default)]
struct Queue {
    tasks: Mutex<VecDeque<Task>>,
    added: Condvar,
}

/// A task, and the thread that waits for its end.
struct Task {
    work: Box<dyn FnOnce() + Send>,
    end: Arc<End>,
}

/// Whether a task has ended.
#[derive(Default)]
struct End {
    reached: Mutex<bool>,
    told: Condvar,
}

impl Signers {
    /// Starts as many threads as there are cores, but not more than the arena has stacks for.
    ///
    /// # Errors
    /// [`SignersError`].
    pub(crate) fn start(cores: usize) -> Result<Arc<Self>, SignersError> {
        let queue = Arc::new(Queue::default());
        for _ in 0..cores.min(arena::stacks()).max(1) {
            let queue = Arc::clone(&queue);
            spawn(arena::stack()?, Box::new(move || queue.serve()))?;
        }
        Ok(Arc::new(Self(queue)))
    }

    /// Runs `work` on one of the threads, and waits for its end. Tasks begin in the order of their arrival.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let mut result = None;
        let end = Arc::new(End::default());
        let store: Box<dyn FnOnce() + Send + '_> =
            Box::new(|| result = Some(catch_unwind(AssertUnwindSafe(work))));
        // SAFETY: only the lifetime changes. `Queue::serve` signals the end after the box has been run and dropped, and
        // this function does not return or unwind before that: what the box borrows outlives it.
        let work = unsafe {
            std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Box<dyn FnOnce() + Send + 'static>>(store)
        };
        self.0.add(Task { work, end: Arc::clone(&end) });
        end.wait();
        match result {
            Some(Ok(result)) => result,
            Some(Err(panic)) => resume_unwind(panic),
            // The end was signalled, but the task did not run.
            None => std::process::abort(),
        }
    }
}

impl Queue {
    fn add(&self, task: Task) {
        self.lock().push_back(task);
        self.added.notify_one();
    }

    /// Runs one task after the other until the process ends.
    fn serve(&self) {
        loop {
            let waited = self.added.wait_while(self.lock(), |tasks| tasks.is_empty());
            let next = waited.unwrap_or_else(PoisonError::into_inner).pop_front();
            if let Some(Task { work, end }) = next {
                // The task catches its own panics.
                work();
                end.reach();
            }
        }
    }

    /// Locks the queue. Each change under the lock is one call, so the queue stays consistent.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn wait(&self) {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.told.wait_while(reached, |reached| !*reached).unwrap_or_else(PoisonError::into_inner));
    }

    fn reach(&self) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_one();
    }
}

/// The main function of a thread.
type Main = Box<dyn FnOnce() + Send>;

/// Starts a thread on `stack`. If there is no stack, because the process has no arena, the library allocates one.
fn spawn(stack: Option<Stack>, main: Main) -> io::Result<()> {
    let Some(stack) = stack else { return thread::Builder::new().spawn(main).map(drop) };
    let argument = Box::into_raw(Box::new(main));
    let errno = start(&stack, argument.cast());
    if errno == 0 {
        return Ok(());
    }
    // SAFETY: no thread was started, so this function still owns the box.
    drop(unsafe { Box::from_raw(argument) });
    Err(io::Error::from_raw_os_error(errno))
}

/// Returns the errno of the first call that fails, or 0.
fn start(stack: &Stack, argument: *mut c_void) -> libc::c_int {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the attributes are initialised before their use, and freed after it. The stack has no other user and is
    // never given back, so it outlives the thread. `run` takes ownership of the argument.
    unsafe {
        let errno = libc::pthread_attr_init(attributes.as_mut_ptr());
        if errno != 0 {
            return errno;
        }
        let attributes = attributes.as_mut_ptr();
        let mut errno = libc::pthread_attr_setstack(attributes, stack.base().cast(), stack.len());
        if errno == 0 {
            errno = libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED);
        }
        if errno == 0 {
            let mut thread = MaybeUninit::uninit();
            errno = libc::pthread_create(thread.as_mut_ptr(), attributes, run, argument);
        }
        libc::pthread_attr_destroy(attributes);
        errno
    }
}

/// The entry function of a thread. Nothing may unwind out of it.
extern "C" fn run(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` created the pointer from such a box, and passes it to exactly one thread.
    let main = unsafe { Box::from_raw(argument.cast::<Main>()) };
    // A panic has already reported itself. Tasks catch their own panics.
    let _ = catch_unwind(AssertUnwindSafe(main));
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn what_is_handed_over_is_done_by_another_thread_and_its_result_comes_back() {
        let signers = Signers::start(2).expect("threads");
        let text = "borrowed".to_owned();
        let (length, thread) = signers.run(|| (text.len(), thread::current().id()));
        assert_eq!(length, text.len());
        assert_ne!(thread, thread::current().id());
    }

    #[test]
    fn as_many_tasks_run_at_once_as_there_are_threads() {
        let signers = Signers::start(2).expect("threads");
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| signers.run(|| both.wait()));
            }
        });
    }

    #[test]
    fn a_panic_comes_back_and_the_thread_goes_on() {
        let signers = Signers::start(1).expect("a thread");
        let caught = catch_unwind(AssertUnwindSafe(|| signers.run(|| panic!("as a test"))));
        assert!(caught.is_err());
        assert_eq!(signers.run(|| 1), 1);
    }
}
