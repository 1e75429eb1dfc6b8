//! A bounded number of permits, for the connections of a front and for concurrent signatures.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The available permits, and the waiting threads.
pub(crate) struct Permits {
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    left: usize,
    /// The number of waiting threads. Without it, each release would make a system call even when no thread waits.
    waiting: usize,
}

/// One permit. It is returned when it is dropped.
pub(crate) struct Permit(Arc<Permits>);

impl Permits {
    /// Returns a set of `count` permits.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let state = Mutex::new(State { left: count, waiting: 0 });
        Arc::new(Self { state, returned: Condvar::new() })
    }

    /// Takes a permit. Waits until one is available.
    pub(crate) fn take(self: &Arc<Self>) -> Permit {
        let mut state = self.lock();
        if state.left == 0 {
            state.waiting += 1;
            let waited = self.returned.wait_while(state, |state| state.left == 0);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.left -= 1;
        drop(state);
        Permit(Arc::clone(self))
    }

    /// Locks the state. Code that holds the lock cannot panic between two changes.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.left += 1;
        if state.waiting > 0 {
            self.0.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn who_waits_gets_the_permit_that_comes_back() {
        let permits = Permits::new(2);
        let (first, second) = (permits.take(), permits.take());
        let waiters = [(); 3].map(|()| {
            let permits = Arc::clone(&permits);
            thread::spawn(move || drop(permits.take()))
        });
        while permits.lock().waiting < waiters.len() {
            thread::yield_now();
        }
        drop((first, second));
        waiters.into_iter().for_each(|waiter| waiter.join().expect("it got one"));
        let state = permits.lock();
        assert_eq!((state.left, state.waiting), (2, 0));
    }
}
