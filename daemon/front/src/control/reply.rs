//! Answers to requests.

use luassl_protocol::{Done, ErrorCode, Failure, reply_frame};
use serde::Serialize;
use std::{os::fd::OwnedFd, pin::Pin, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// The result of an operation.
pub(super) type Outcome<T> = Result<T, Failure>;

/// An answer, with the descriptors that are attached to it.
pub(super) struct Answer {
    pub(super) frame: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// The outcome of a request.
pub(super) enum Answering {
    /// The answer is ready.
    Now(Answer),
    /// The answer waits for a connection, and no other request waits for the answer.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

pub(super) fn plain<T: Serialize>(id: u64, outcome: Outcome<T>) -> Answer {
    Answer { frame: encode(id, &outcome), descriptors: Vec::new() }
}

pub(super) fn with_descriptor<T: Serialize>(id: u64, outcome: Outcome<(T, OwnedFd)>) -> Answer {
    match outcome {
        Ok((answer, descriptor)) => Answer { frame: encode(id, &Ok(answer)), descriptors: vec![descriptor] },
        Err(failure) => plain(id, Err::<Done, _>(failure)),
    }
}

fn encode<T: Serialize>(id: u64, outcome: &Outcome<T>) -> Vec<u8> {
    reply_frame(id, outcome).unwrap_or_else(|error| {
        tracing::error!("an answer cannot be written: {error}");
        let failure = Failure::new(ErrorCode::Internal, "the answer cannot be written");
        reply_frame::<Done>(id, &Err(failure)).unwrap_or_default()
    })
}

/// An answer that a connection's pump, or its peer, will supply.
pub(super) struct Pending<T> {
    pub(super) answer: oneshot::Receiver<Outcome<T>>,
    pub(super) deadline: Duration,
}

impl<T> Pending<T> {
    async fn outcome(self) -> Outcome<T> {
        match timeout(self.deadline, self.answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure::new(ErrorCode::Closed, "the connection has ended")),
            Err(_) => Err(Failure::new(ErrorCode::Timeout, "the peer did not answer in time")),
        }
    }
}

pub(super) fn later<T: Serialize + Send + 'static>(id: u64, pending: Outcome<Pending<T>>) -> Answering {
    match pending {
        Ok(pending) => Answering::Later(Box::pin(async move { plain(id, pending.outcome().await) })),
        Err(failure) => Answering::Now(plain(id, Err::<Done, _>(failure))),
    }
}
