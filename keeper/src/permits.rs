//! A bounded number of permits: connections of a front, signatures at once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Permits that are left, and who waits for one.
pub(crate) struct Permits {
    left: Mutex<usize>,
    returned: Condvar,
}

/// One permit; it goes back when it is dropped.
pub(crate) struct Permit(Arc<Permits>);

impl Permits {
    /// So many in all.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(count), returned: Condvar::new() })
    }

    /// Takes one, and waits while there is none.
    pub(crate) fn take(self: &Arc<Self>) -> Permit {
        let none = |left: &mut usize| *left == 0;
        let waited = self.returned.wait_while(self.left(), none);
        *waited.unwrap_or_else(PoisonError::into_inner) -= 1;
        Permit(Arc::clone(self))
    }

    fn left(&self) -> MutexGuard<'_, usize> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.left() += 1;
        self.0.returned.notify_one();
    }
}
