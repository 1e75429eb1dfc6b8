//! The turns of owners on the thread of the control sockets.
//!
//! One thread reads and answers the requests of all owners. A program could send requests without waiting for their
//! answers, on as many connections as it may have. It would occupy the thread for the time that all its requests take.
//! So each owner gets one receive, or one request, between two checks of the sockets of all owners.

use crate::authorization::owner::Owner;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

/// The turns of owners that have a control connection.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<Owner, Weak<tokio::sync::Mutex<()>>>>);

/// The turn of one owner, which all its connections share. Waiting connections get it in the order in which they
/// arrived.
#[derive(Clone)]
pub(crate) struct Turn(Arc<tokio::sync::Mutex<()>>);

impl Turns {
    /// Returns the turn of `owner`.
    pub(crate) fn of(&self, owner: &Owner) -> Turn {
        let mut owners = self.0.lock();
        if let Some(turn) = owners.get(owner).and_then(Weak::upgrade) {
            return Turn(turn);
        }
        owners.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        owners.insert(owner.clone(), Arc::downgrade(&turn));
        Turn(turn)
    }
}

impl Turn {
    /// Waits until the other connections of this owner have had their turns, and until the sockets of all owners have
    /// been checked since then. The future may be dropped and the function called again.
    pub(crate) async fn wait(&self) {
        let _mine = self.0.lock().await;
        // The runtime checks its sockets before it resumes a task that has yielded.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::rig::block_on;
    use parking_lot::Mutex;
    use tokio::task::JoinSet;

    /// Returns the number of turns that a program with many connections had before another program, with one
    /// connection, had all the turns that it wanted.
    fn turns_of_many(uids: [u32; 2]) -> usize {
        let order = order(uids, [100, 1], 20);
        let last = order.iter().rposition(|program| *program == 1).unwrap();
        order[..last].iter().filter(|program| **program == 0).count()
    }

    /// Returns which of two programs had a turn, in order. Program `n` has `tasks[n]` tasks, and each task takes `each`
    /// turns.
    fn order(uids: [u32; 2], tasks: [usize; 2], each: usize) -> Vec<usize> {
        let log = Arc::new(Mutex::new(Vec::new()));
        block_on(async {
            let turns = Turns::default();
            let mut all = JoinSet::new();
            for (program, uid) in uids.into_iter().enumerate() {
                let owner = Owner { socket: "control".into(), uid };
                for _ in 0..tasks[program] {
                    let (turn, log) = (turns.of(&owner), Arc::clone(&log));
                    all.spawn(async move {
                        for _ in 0..each {
                            turn.wait().await;
                            log.lock().push(program);
                        }
                    });
                }
            }
            all.join_all().await;
        });
        Arc::into_inner(log).unwrap().into_inner()
    }

    #[test]
    fn finding_7_an_owner_with_one_connection_has_as_many_turns_as_one_with_many() {
        let others = turns_of_many([1, 2]);
        assert!(others <= 22, "{others} turns of the owner with many, for 20 of the other");
        // Positive control: two programs of one owner.
        assert!(turns_of_many([1, 1]) > 1_000);
    }

    #[test]
    fn what_owners_had_is_forgotten_with_their_connections() {
        let turns = Turns::default();
        for uid in 0..100 {
            drop(turns.of(&Owner { socket: "control".into(), uid }));
        }
        assert_eq!(turns.0.lock().len(), 1);
    }
}
